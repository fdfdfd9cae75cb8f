"""Drive a graph from its input, or from where an earlier attempt stopped, and forward what it yields."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import CONFIG_KEY_RESUMING
from langgraph.errors import GraphBubbleUp, ParentCommand
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.store.base import BaseStore
from langgraph.types import Command

import trellis
from trellis.db.checkpoints.load import Stored
from trellis.db.checkpoints.saver import Saver
from trellis.db.runs import Claimed
from trellis.domain import interrupts
from trellis.domain.runs import Outcome
from trellis.domain.users import User
from trellis.errors import UnknownInterruptError
from trellis.graphs.commands import command_of, says_nothing
from trellis_workers import lifecycle, modes, outcome, protocol
from trellis_workers.first_words import FirstWords, Flush

Graph = Pregel[Any, Any, Any, Any]

#: Told to every node and kept with every checkpoint.
_SERVER = {
    "langgraph_version": version("langgraph"),
    "langgraph_api_version": trellis.__version__,
    "langgraph_plan": "open-source",
    "langgraph_host": "self-hosted",
}


@dataclass(frozen=True, slots=True)
class Driven:
    """How the graph ended, and the state's values then."""

    outcome: Outcome
    values: Any


def equip(graph: Graph, run: Claimed, *, saver: Saver, store: BaseStore) -> Graph:
    """This graph with our checkpointer and store, for a run. A shallow copy: many runs share the graph."""
    equipped = copy.copy(graph)
    equipped.stream_eager |= modes.is_eager(run.kwargs["stream_mode"])
    equipped.checkpointer = saver
    equipped.store = store
    return equipped


def client_config(run: Claimed) -> dict[str, Any]:
    """The config as it was accepted, with the user as nodes and factories expect it: an object and a mapping in one."""
    config: dict[str, Any] = run.kwargs["config"]
    fields = config["configurable"].get("langgraph_auth_user")
    if not fields:
        return dict(config)
    configurable = {**config["configurable"], "langgraph_auth_user": User(fields)}
    return {**config, "configurable": configurable}


def config_of(run: Claimed, head: Stored | None) -> dict[str, Any]:
    """The config a graph gets: the client's, with our metadata and the run's identity."""
    config = client_config(run)
    config["metadata"] = {
        **config.get("metadata", {}),
        "run_attempt": run.claim.attempt,
        **_SERVER,
        "run_id": run.claim.run_id,
        "thread_id": run.claim.thread_id,
    }
    config["run_id"] = UUID(run.claim.run_id)
    config.setdefault("run_name", run.graph_id)
    if continues(run):
        config["configurable"] = _branch(run, head, config["configurable"])
    return config


def _branch(run: Claimed, head: Stored | None, configurable: Mapping[str, Any]) -> dict[str, Any]:
    """
    Where a later attempt goes on: at the thread's head, if that is of its branch.

    It is not yet when the run answers a question that another branch has left behind: no checkpoint is made before
    the node has ended, and what the first attempt wrote hangs on the old one. The flag keeps LangGraph from taking a
    start without an answer for a replay, which drops the answers that are there.
    """
    origin = configurable.get("checkpoint_id")
    if origin and head and origin != head.checkpoint_id and not _heads(run, head):
        return {**configurable, CONFIG_KEY_RESUMING: True}
    forked = ("checkpoint_id", "checkpoint_map")
    return {key: value for key, value in configurable.items() if key not in forked}


def _heads(run: Claimed, head: Stored | None) -> bool:
    """Whether the thread's newest checkpoint is one of this run."""
    return head is not None and head.metadata.get("run_id") == run.claim.run_id


def continues(run: Claimed) -> bool:
    """Whether an earlier attempt left durable writes to go on from."""
    return run.has_progress


async def drive(
    graph: Graph,
    run: Claimed,
    *,
    head: Stored | None,
    send: modes.Emit,
    seen: Callable[[Any], None],
    control: RunControl,
    flush: Flush,
) -> Driven:
    """
    Run the graph to its end or its next pause; `seen` is told the state after each step. Raises what it raises.

    `head` is the thread's newest checkpoint, as it was when the run was claimed. `flush` waits, not for long, until
    what was sent is out.
    """
    kwargs, config = run.kwargs, config_of(run, head)
    if kwargs.get("strict_resume") and not continues(run):
        await _check_answers(graph, config, kwargs["command"] or {})
    translator = modes.Translator(
        kwargs["stream_mode"],
        subgraphs=kwargs["subgraphs"],
        as_blocks=protocol.is_asked(config),
    )
    values: Any = _NOTHING
    paused = False
    try:
        async for namespace, mode, payload in _chunks(graph, run, config, control, flush):
            modes.forward(translator.events(namespace, mode, payload), send)
            if mode == "values" and not namespace:
                values = payload
                seen(values)
                # Parallel tasks pause one by one, and what ends after them says nothing of it.
                paused |= isinstance(values, Mapping) and "__interrupt__" in values
    except ParentCommand as handed:
        # For whoever called this graph as a node of its own; to this graph it is the end.
        modes.forward(translator.handed_over(handed.args[0]), send)
        ended = outcome.of_success(next_nodes=(), interrupts={})
        return Driven(ended, None if values is _NOTHING else values)
    except Exception as error:
        if not isinstance(error, GraphBubbleUp):
            modes.forward(translator.end("failed", error), send)
        raise
    modes.forward(translator.end("interrupted" if paused else "completed"), send)
    return await _result(graph, run, config, values, paused=paused)


async def _check_answers(graph: Graph, config: dict[str, Any], command: Mapping[str, Any]) -> None:
    """Refuse an answer to a question that does not wait, before anything is done with it."""
    if "resume" not in command:
        return
    snapshot = await graph.aget_state(cast("RunnableConfig", config), subgraphs=True)
    waiting = interrupts.of_tasks(snapshot.tasks)
    if unknown := interrupts.unknown_answers(command["resume"], waiting):
        raise UnknownInterruptError(f"Nothing waits for an answer to {', '.join(unknown)}.")


_NOTHING = object()


async def _chunks(
    graph: Graph, run: Claimed, config: dict[str, Any], control: RunControl, flush: Flush
) -> Any:
    kwargs = run.kwargs
    asked, subgraphs = kwargs["stream_mode"], kwargs["subgraphs"]
    if modes.is_watched(asked, subgraphs=subgraphs):
        config = lifecycle.watched(config)
    native = modes.native_modes(asked, subgraphs=subgraphs)
    if "messages" in native:
        config = {**config, "callbacks": [FirstWords(flush)]}
    asks = continues(run) and _answers_by_id(run)
    answered = await cast("Saver", graph.checkpointer).answered() if asks else ()
    speaks_v2 = protocol.is_asked(config)
    if speaks_v2:
        extensions, config = protocol.Extensions(graph), protocol.streaming(config)
        native = list(dict.fromkeys([*native, *extensions.modes]))
    begin: Any = graph.astream_events if "events" in asked else graph.astream
    stream = begin(
        start_of(run, answered=answered),
        cast("RunnableConfig", config),
        context=context_of(graph, kwargs.get("context")),
        stream_mode=cast("Any", native),
        subgraphs=subgraphs,
        durability=kwargs["durability"],
        interrupt_before=kwargs["interrupt_before"],
        interrupt_after=kwargs["interrupt_after"],
        control=control,
        **({"version": "v2"} if speaks_v2 else {}),
    )
    if speaks_v2:
        async for chunk in protocol.chunks(stream, extensions):
            yield chunk
        return
    async for chunk in stream:
        yield modes.unpacked(chunk, run_id=run.claim.run_id, subgraphs=subgraphs)


def start_of(run: Claimed, *, answered: Container[str] = ()) -> Any:
    """
    What the attempt starts from: None continues from the last checkpoint.

    Once anything of this run is durable its input has been applied, and so has a human's answer: neither is
    given to the graph again (races 27 and 28). Answers by id are, which are saved with the question that takes
    them: but for those that are `answered`.
    """
    kwargs = run.kwargs
    if continues(run):
        left = {key: value for key, value in _answers_by_id(run).items() if key not in answered}
        return Command(resume=left) if left else None
    command = kwargs["command"]
    if command is None:
        return kwargs["input"]
    return None if says_nothing(command) else command_of(command)


def answered_ids(run: Claimed) -> list[str]:
    """The questions that a run of protocol v2 says it answers: the thread's other clients stop asking them."""
    return list(_answers_by_id(run)) if protocol.is_asked(run.kwargs["config"]) else []


def _answers_by_id(run: Claimed) -> Mapping[str, Any]:
    return interrupts.by_id((run.kwargs["command"] or {}).get("resume"))


def context_of(graph: Graph, context: Any) -> Any:
    """
    The context a graph declares, without the keys it does not know.

    Context and `configurable` mirror each other on the wire, so a run's context may hold keys meant for
    `configurable` alone; a dataclass would refuse them.
    """
    schema = getattr(graph, "context_schema", None)
    if schema is None or not isinstance(context, Mapping):
        return context
    if dataclasses.is_dataclass(schema):
        known = {field.name for field in dataclasses.fields(schema)}
        return {key: value for key, value in context.items() if key in known}
    return context


async def _result(
    graph: Graph, run: Claimed, config: dict[str, Any], values: Any, *, paused: bool
) -> Driven:
    """Ask the graph where it stands only if it may have paused: that costs a read and a planning step."""
    if not (paused or values is _NOTHING or _may_pause(graph, run.kwargs)):
        return Driven(outcome.of_success(next_nodes=(), interrupts={}), values)
    head = cast("RunnableConfig", _head(config))
    snapshot = await graph.aget_state(head, subgraphs=True)
    ended = outcome.of_success(
        next_nodes=snapshot.next, interrupts=interrupts.of_tasks(snapshot.tasks)
    )
    values = snapshot.values if values is _NOTHING else values
    if snapshot.interrupts and isinstance(values, Mapping):
        values = {**values, "__interrupt__": snapshot.interrupts}
    return Driven(ended, values)


def _may_pause(graph: Graph, kwargs: Mapping[str, Any]) -> bool:
    return bool(
        kwargs["interrupt_before"]
        or kwargs["interrupt_after"]
        or graph.interrupt_before_nodes
        or graph.interrupt_after_nodes
    )


def _head(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the thread's newest checkpoint, also when the run started from an older one."""
    return {"configurable": {"thread_id": config["configurable"]["thread_id"], "checkpoint_ns": ""}}
