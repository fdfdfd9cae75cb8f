"""When the subgraphs of a run begin and end, told from the tasks of the graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from langgraph._internal._constants import CONFIG_KEY_RUNTIME, CONFIG_KEY_STREAM
from langgraph.config import get_config
from langgraph.pregel._messages import graph_namespace
from langgraph.pregel._tools import StreamToolCallHandler
from langgraph.pregel.protocol import StreamProtocol
from langgraph.runtime import DEFAULT_RUNTIME

from trellis.domain.failures import describe

Namespace = tuple[str, ...]
Notice = tuple[Namespace, dict[str, Any]]


class Below(NamedTuple):
    """A task of a subgraph, on its way through the queue of the graph."""

    namespace: Namespace
    task: Mapping[str, Any]


class Written(NamedTuple):
    """What a node of the graph wrote for the `custom` mode, on its way through the queue of the graph."""

    data: Any


def watched(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    The config, so that the subgraphs tell of their tasks in the `tasks` mode of the graph; `tools` is needed too.

    To stream the subgraphs themselves would change what the other modes say of the graph: messages that were
    streamed inside are not told again as what its node returned. The queue of the graph keeps all in order.
    """
    watch = _Watch()
    inner = {
        CONFIG_KEY_STREAM: StreamProtocol(watch.tell, {"tasks"}),
        # Nodes of subgraphs would write for the graph: they take its writer once it streams them.
        CONFIG_KEY_RUNTIME: DEFAULT_RUNTIME.override(stream_writer=watch.write),
    }
    return {**config, "configurable": {**config["configurable"], **inner}}


class _Watch:
    def __init__(self) -> None:
        self._put: Callable[[Any], None] | None = None

    def tell(self, chunk: tuple[Namespace, str, Mapping[str, Any]]) -> None:
        namespace, _, task = chunk
        if namespace:
            self._send(Below(namespace, task))

    def write(self, data: Any) -> None:
        if not graph_namespace(get_config()["metadata"]):
            self._send(Written(data))

    def _send(self, payload: Below | Written) -> None:
        # Kept, because the end of a task may come from a thread that knows of no run.
        self._put = self._put or _queue()
        if self._put is not None:
            self._put(((), "tasks", payload))


def _queue() -> Callable[[Any], None] | None:
    """Puts something into the queue of the graph whose node this is. None: it is nobody's node."""
    try:
        callbacks: Any = get_config()["callbacks"]
    except (RuntimeError, KeyError):
        return None
    handlers = getattr(callbacks, "inheritable_handlers", ())
    return next((each.stream for each in handlers if isinstance(each, StreamToolCallHandler)), None)


@dataclass(frozen=True, slots=True)
class _Open:
    """A subgraph that runs: who waits for it, and which call of a tool started it."""

    parent: Namespace
    task_id: str
    cause: Mapping[str, str]


class Lifecycle:
    """The subgraphs of one attempt that were seen, and those that run. Fed with the tasks of all its graphs."""

    def __init__(self) -> None:
        self._seen: set[Namespace] = set()
        self._open: dict[Namespace, _Open] = {}
        self._calls: dict[str, str] = {}

    def of_graph(self, namespace: Sequence[str]) -> Iterator[Notice]:
        """A graph says anything: what that tells of its beginning."""
        place = tuple(namespace)
        if place in self._seen or (owner := _owner(place)) is None:
            return
        parent, task_id = owner
        call = self._calls.get(task_id)
        each = _Open(parent, task_id, {} if call is None else {"tool_call_id": call})
        self._seen.add(place)
        self._open[place] = each
        yield place, _notice("started", place, each)

    def of_task(self, namespace: Sequence[str], task: Mapping[str, Any]) -> Iterator[Notice]:
        """What the beginning or the end of a task says of subgraphs."""
        place = tuple(namespace)
        if "result" in task:
            yield from self._ended(place, task)
            return
        if (call := _tool_call(task.get("input"))) is not None:
            self._calls[task["id"]] = call
        yield from self.of_graph(place)

    def of_end(self, event: str, error: BaseException | None = None) -> Iterator[Notice]:
        """The run is over, and with it the subgraphs of which no task told the end."""
        left, self._open = self._open, {}
        for place, each in reversed(left.items()):
            yield place, _notice(event, place, each, error)

    def _ended(self, parent: Namespace, task: Mapping[str, Any]) -> Iterator[Notice]:
        self._calls.pop(task["id"], None)
        closed = [
            (place, each)
            for place, each in self._open.items()
            if (each.parent, each.task_id) == (parent, task["id"])
        ]
        for place, each in closed:
            del self._open[place]
            yield place, _notice(_event(task), place, each, task.get("error"))


def _event(task: Mapping[str, Any]) -> str:
    if task.get("interrupts"):
        return "interrupted"
    return "failed" if task.get("error") else "completed"


def _notice(event: str, place: Namespace, each: _Open, error: object = None) -> dict[str, Any]:
    failure = {} if error is None else {"error": _described(error)}
    return {"event": event, "namespace": list(place), **each.cause, **failure}


def _described(error: object) -> dict[str, str]:
    """An error as clients see it. Of a graph on another server there is only the text."""
    if isinstance(error, BaseException):
        return describe(error)
    return {"error": "RemoteException", "message": str(error)}


def _owner(place: Namespace) -> tuple[Namespace, str] | None:
    """The task that runs a subgraph, and where it runs. The second subgraph of a task is `…, "node:task", "1"`."""
    for depth in range(len(place), 0, -1):
        _, colon, task_id = place[depth - 1].rpartition(":")
        if colon:
            return place[: depth - 1], task_id
    return None


def _tool_call(given: Any) -> str | None:
    """The id of the tool call that a task is for, if it is for a single one."""
    if isinstance(given, list) and len(given) == 1:
        [given] = given
    elif isinstance(given, Mapping):
        given = given.get("tool_call")
    call = given.get("id") if isinstance(given, Mapping) else None
    return call if isinstance(call, str) else None
