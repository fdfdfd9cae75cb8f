"""
From the entries of a run's log to the events of protocol v2. No I/O.

A log says the same things in the words of the stream modes, and most of it passes as it is. Messages are content blocks
in the log of a run that was started by a command; those of other runs become so here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from trellis.domain.messages import compact_all
from trellis.protocol.blocks import Blocks
from trellis.protocol.subgraphs import Subgraphs
from trellis.stream.entries import End, Event, Item, order

Namespace = tuple[str, ...]

#: LangGraph's name of what a graph waits for, among its values and updates.
_INTERRUPT = "__interrupt__"
_IN_LOG = b'"__interrupt__":'
#: In every message that still has its empty fields.
_LOOSE = b'"additional_kwargs":'

#: A tool's event in the log → its name here, and the names of the field that goes with it, there and here.
_TOOLS = {
    "on_tool_start": ("tool-started", "input", "input"),
    "on_tool_event": ("tool-output-delta", "data", "delta"),
    "on_tool_end": ("tool-finished", "output", "output"),
    "on_tool_error": ("tool-error", "error", "message"),
}


class ProtocolEvent(NamedTuple):
    """One event, but for its `seq`."""

    method: str
    namespace: Namespace
    timestamp: int  #: milliseconds since the epoch
    data: bytes  #: JSON
    event_id: str


class Said(NamedTuple):
    """An event before it has its id. Those that stand for a fact, not for an entry, have one of their own."""

    method: str
    namespace: Namespace
    data: bytes
    fact: str | None = None


def channels(event: ProtocolEvent) -> tuple[str, ...]:
    """The channels that an event belongs to: whoever follows one of them gets it."""
    if event.method.startswith("input."):
        return ("input",)
    if event.method != "custom":
        return (event.method,)
    name = _name(event.data)
    return ("custom",) if name is None else (f"custom:{name}", "custom")


def envelope(event: ProtocolEvent, seq: int) -> bytes:
    """The event as clients get it: one line of JSON."""
    return (
        b'{"type":"event","event_id":%b,"seq":%d,"method":%b,"params":{"namespace":%b,"timestamp":%d,"data":%b}}'
        % (
            orjson.dumps(event.event_id),
            seq,
            orjson.dumps(event.method),
            orjson.dumps(event.namespace),
            event.timestamp,
            event.data,
        )
    )


class Translator:
    """Turns what one run's log says into events. One per run and reader, fed from the log's beginning."""

    def __init__(self, run_id: str, graph_name: str) -> None:
        self._run_id = run_id
        self._graph_name = graph_name
        self._has_begun = False
        self._is_paused = False
        self._questions: dict[str, Said] = {}
        self._error: str | None = None
        self._blocks = Blocks()
        self._subgraphs = Subgraphs()
        self._readers: Mapping[str, Callable[[Namespace, bytes], Iterator[Said]]] = {
            "metadata": self._metadata,
            "values": self._values,
            "updates": self._updates,
            "messages": self._messages,
            "messages/partial": self._partial,
            "messages/complete": self._complete,
            "tools": self._tools,
            "lifecycle": self._lifecycle,
            "checkpoints": self._checkpoints,
            "tasks": self._tasks,
            "custom": self._custom,
            "input.answered": self._answered,
            "error": self._failure,
        }

    def feed(self, item: Item, *, timestamp: int | None = None) -> list[ProtocolEvent]:
        """The events that the next item of the log makes, in order. `timestamp`, in milliseconds, is for the end."""
        if isinstance(item, Event):
            at, _ = order(item.id)
            said = [*self._begun(), *self._entry(item)]
            # Not by the id of the log's entry: clients drop doubles over all runs, two of which may share a millisecond.
            return self._signed(said, f"{at}-{item.fence}-{item.n}", at)
        if isinstance(item, End):
            said = [*self._begun(), *self._end(item)]
            return self._signed(said, f"{self._run_id}:end", timestamp or 0)
        return []

    def _signed(self, said: list[Said], entry_id: str, timestamp: int) -> list[ProtocolEvent]:
        events: list[ProtocolEvent] = []
        for each in said:
            if each.fact is not None:
                event_id = f"synth:{self._run_id}:{each.fact}"
            else:
                event_id = f"{entry_id}.{len(events)}" if events else entry_id
            events.append(
                ProtocolEvent(each.method, each.namespace, timestamp, each.data, event_id)
            )
        return events

    def _begun(self) -> Iterator[Said]:
        if not self._has_begun:
            self._has_begun = True
            yield self._root("running")

    def _root(self, status: str, error: str | None = None) -> Said:
        failure = {} if error is None else {"error": error}
        shown = {"event": status, "graph_name": self._graph_name, **failure}
        return Said("lifecycle", (), orjson.dumps(shown), f"lc||{status}")

    def _entry(self, event: Event) -> list[Said]:
        name, *namespace = event.name.split("|")
        read = self._readers.get(name)
        try:
            return [] if read is None else list(read(tuple(namespace), data_of(event.frame)))
        except (KeyError, TypeError, ValueError):
            # What no JSON can say stands in the log as text: nothing that a channel has a shape for.
            return []

    # What the log says, by name

    def _metadata(self, _: Namespace, data: bytes) -> Iterator[Said]:
        """An attempt begins, and nothing more comes of the one before."""
        return self._left()

    def _left(self) -> Iterator[Said]:
        return (_block(namespace, block) for namespace, block in self._blocks.abandoned())

    def _values(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        if _IN_LOG in data:
            state = orjson.loads(data)
            if isinstance(state, dict) and _INTERRUPT in state:
                self._pause(namespace, state.pop(_INTERRUPT))
                data = orjson.dumps(state)
        yield Said("values", namespace, _compact(data))

    def _updates(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        if _IN_LOG in data:
            update = orjson.loads(data)
            if isinstance(update, dict) and _INTERRUPT in update:
                self._pause(namespace, update[_INTERRUPT])
        yield Said("updates", namespace, _compact(data))

    def _pause(self, namespace: Namespace, questions: Any) -> None:
        """
        Keep what is asked until the run has ended: before, nobody can answer.

        A question passes from a subgraph to the graphs above it. It is told once, where it was asked.
        """
        self._is_paused = True
        for each in questions if isinstance(questions, list) else ():
            shown = {"interrupt_id": each["id"], "payload": each["value"]}
            fact = f"input|{'|'.join(namespace)}|{each['id']}"
            said = Said("input.requested", namespace, orjson.dumps(shown), fact)
            self._questions.setdefault(each["id"], said)

    def _messages(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        if data.startswith(b"{"):
            self._blocks.saw(namespace, data)
            return iter((Said("messages", namespace, data),))
        message, _ = orjson.loads(data)
        return (_block(namespace, each) for each in self._blocks.of_chunk(namespace, message))

    def _partial(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        [message] = orjson.loads(data)
        return (_block(namespace, each) for each in self._blocks.of_partial(namespace, message))

    def _complete(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        [message] = orjson.loads(data)
        return (_block(namespace, each) for each in self._blocks.of_whole(namespace, message))

    def _tools(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        told = orjson.loads(data)
        name, there, here = _TOOLS[told["event"]]
        shown = {"event": name, "tool_call_id": told["toolCallId"]}
        if name == "tool-started":
            shown["tool_name"] = told["name"]
        item = told.get(there)
        if name == "tool-output-delta" and not isinstance(item, str):
            # Clients put the pieces together as text.
            item = orjson.dumps(item).decode()
        yield Said("tools", namespace, orjson.dumps({**shown, here: compact_all(item)}))

    def _lifecycle(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        for status, shown in self._subgraphs.told(namespace, orjson.loads(data)):
            yield self._of_subgraph(namespace, status, shown)

    def _of_subgraph(self, namespace: Namespace, status: str, shown: Mapping[str, Any]) -> Said:
        fact = None if status == "started" else f"lc|{'|'.join(namespace)}|{status}"
        return Said("lifecycle", namespace, orjson.dumps(shown), fact)

    def _checkpoints(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        """Where a checkpoint stands, without its values."""
        told = orjson.loads(data)
        place, parent = told["config"], told["parent_config"]
        shown = {"id": place["configurable"]["checkpoint_id"]}
        if parent is not None:
            shown["parent_id"] = parent["configurable"]["checkpoint_id"]
        metadata = told["metadata"]
        shown |= {"step": metadata["step"], "source": metadata["source"]}
        yield Said("checkpoints", namespace, orjson.dumps(shown))

    def _tasks(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        yield Said("tasks", namespace, _compact(data))

    def _custom(self, namespace: Namespace, data: bytes) -> Iterator[Said]:
        yield Said("custom", namespace, data)

    def _answered(self, _: Namespace, data: bytes) -> Iterator[Said]:
        """Each attempt says so."""
        yield Said("input.answered", (), data, "answered")

    def _failure(self, _: Namespace, data: bytes) -> Iterator[Said]:
        """It is told when the run ends."""
        self._error = _message(orjson.loads(data))
        return iter(())

    # The end

    def _end(self, end: End) -> Iterator[Said]:
        final = self._final(end)
        if isinstance(final, dict) and _INTERRUPT in final:
            self._pause((), _questions(final[_INTERRUPT]))
        self._is_paused |= end.is_paused
        status, error = self._outcome(end.status, final)
        yield from self._left()
        if end.status == "success":
            yield from self._questions.values()
        for namespace, shown in self._subgraphs.closed(status, error):
            yield self._of_subgraph(namespace, status, shown)
        yield self._root(status, error)

    def _final(self, end: End) -> Any:
        """The final values, where they tell how the run ended."""
        tells = end.values is not None and (_IN_LOG in end.values or end.status == "error")
        return orjson.loads(end.values) if tells and end.values is not None else None

    def _outcome(self, status: str | None, final: Any) -> tuple[str, str | None]:
        match status:
            case "success":
                return ("interrupted" if self._is_paused else "completed"), None
            case "error":
                told = final.get("__error__") if isinstance(final, dict) else None
                return "failed", self._error or _message(told)
            case "timeout":
                return "failed", "The run took longer than it may."
            case _:
                return "interrupted", None


def _block(namespace: Namespace, data: Mapping[str, Any]) -> Said:
    return Said("messages", namespace, orjson.dumps(data))


def data_of(frame: bytes) -> bytes:
    """The data of a frame, which is one line after the line of its name."""
    return frame[frame.index(b"\r\n") + len(b"\r\ndata: ") : -2]


def _compact(data: bytes) -> bytes:
    return orjson.dumps(compact_all(orjson.loads(data))) if _LOOSE in data else data


def _questions(told: Any) -> Any:
    """Final values list the questions, or have them by task."""
    if isinstance(told, dict):
        return [question for asked in told.values() for question in asked]
    return told


def _message(error: Any) -> str:
    told = error.get("message") if isinstance(error, Mapping) else None
    return told if isinstance(told, str) and told else "The run failed."


def _name(data: bytes) -> str | None:
    """The name that a custom event gives itself."""
    if b'"name"' not in data:
        return None
    told = orjson.loads(data)
    name = told.get("name") if isinstance(told, dict) else None
    return name if isinstance(name, str) and name else None
