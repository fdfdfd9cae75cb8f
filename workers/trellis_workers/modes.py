"""From what the graph yields to the events that a client asked for: names, shapes, namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    convert_to_messages,
    message_chunk_to_message,
)
from langgraph.types import Command, Send

from trellis_workers import protocol
from trellis_workers.lifecycle import Below, Lifecycle, Notice, Written

#: Client's mode → what LangGraph is asked for, where they differ.
_NATIVE = {"messages-tuple": ("messages",), "lifecycle": ("tasks", "tools"), "events": ()}

#: LangGraph's tool event → the client's, and its field that goes on under another name.
_TOOL_EVENTS = {
    "tool-started": ("on_tool_start", "input", "input"),
    "tool-output-delta": ("on_tool_event", "delta", "data"),
    "tool-finished": ("on_tool_end", "output", "output"),
    "tool-error": ("on_tool_error", "message", "error"),
}

#: Modes whose namespace is always that of a graph. Others have that of a `@task`, too.
_OF_GRAPHS = frozenset({"values", "updates", "checkpoints", "tasks", "debug"})

#: Modes whose events are worth nothing once their node has ended.
_PROMPT = frozenset({"tools", "lifecycle"})

_PLACE = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")

Event = tuple[str, Any]
Chunk = tuple[Sequence[str], str, Any]
Emit = Callable[[str, Any], None]


def forward(events: Iterable[Event], send: Emit) -> None:
    """Send events, in their order."""
    for name, data in events:
        send(name, data)


def is_watched(asked: Sequence[str], *, subgraphs: bool) -> bool:
    """Whether subgraphs tell of their lifecycle and of nothing else: see `lifecycle.watched`."""
    return "lifecycle" in asked and not subgraphs


def is_eager(asked: Sequence[str]) -> bool:
    """Whether LangGraph must be told not to wait for the end of a node with what happens within."""
    return not _PROMPT.isdisjoint(asked)


def native_modes(asked: Sequence[str], *, subgraphs: bool = True) -> list[str]:
    """The modes to ask LangGraph for. Values always: the last ones are the run's result."""
    if is_watched(asked, subgraphs=subgraphs):
        asked = [mode for mode in asked if mode != "custom"]
    native = (each for mode in asked for each in _NATIVE.get(mode, (mode,)))
    return list(dict.fromkeys([*native, "values"]))


def unpacked(chunk: Any, *, run_id: str, subgraphs: bool) -> Chunk:
    """What LangGraph yields, in one form: its chunk as it is, within an event, or an event as such."""
    if isinstance(chunk, Mapping):
        if chunk["event"] != "on_chain_stream" or chunk["run_id"] != run_id:
            return (), "events", chunk
        chunk = chunk["data"]["chunk"]
    return chunk if subgraphs else ((), *chunk)


def _debug(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """A checkpoint says also where it stands, as it does in a thread's state."""
    if event["type"] != "checkpoint":
        return event
    payload = event["payload"]
    places = {
        "checkpoint": _place(payload["config"]),
        "parent_checkpoint": _place(payload["parent_config"]),
    }
    return {**event, "payload": {**payload, **places}}


def _place(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    configurable = config["configurable"]
    return {key: configurable[key] for key in _PLACE if key in configurable}


def _message(told: Mapping[str, Any]) -> BaseMessage:
    """A message that a graph on another server has sent."""
    if told["type"] == "AIMessageChunk":
        return AIMessageChunk.model_validate(told)
    return convert_to_messages([dict(told)])[0]


def _goto(goto: Any) -> Any:
    if isinstance(goto, Send):
        return {"node": goto.node, "input": goto.arg}
    return goto if isinstance(goto, str) else [_goto(each) for each in goto]


def _suffix(namespace: Sequence[str]) -> str:
    return "|" + "|".join(namespace) if namespace else ""


def _lifecycle(notices: Iterable[Notice]) -> Iterator[Event]:
    for namespace, notice in notices:
        yield "lifecycle" + _suffix(namespace), notice


class Translator:
    """Turns chunks into events. One per attempt, because it knows what went before."""

    def __init__(
        self, asked: Sequence[str], *, subgraphs: bool = True, as_blocks: bool = False
    ) -> None:
        """Without `subgraphs` only the lifecycle tells of them; `as_blocks`: messages are as protocol v2 has them."""
        self._asked = frozenset(asked)
        self._subgraphs = subgraphs
        self._as_blocks = as_blocks
        self._partial: dict[str, Any] = {}
        self._tools: dict[str, str] = {}
        self._lifecycle = Lifecycle()

    def events(self, namespace: Sequence[str], mode: str, payload: Any) -> Iterator[Event]:
        """The events of one chunk; a subgraph's carry its namespace behind the name."""
        if isinstance(payload, Below):
            yield from _lifecycle(self._lifecycle.of_task(*payload))
            return
        if isinstance(payload, Written):
            mode, payload = "custom", payload.data
        tells = "lifecycle" in self._asked
        if tells and mode in _OF_GRAPHS:
            yield from _lifecycle(self._lifecycle.of_graph(namespace))
        if self._subgraphs or not namespace:
            for name, data in self._plain(mode, payload):
                yield name + _suffix(namespace), data
        if tells and mode == "tasks":
            yield from _lifecycle(self._lifecycle.of_task(namespace, payload))

    def end(self, event: str, error: BaseException | None = None) -> Iterator[Event]:
        """The events of the run's end: `event` says how subgraphs end that were still running."""
        yield from _lifecycle(self._lifecycle.of_end(event, error))

    def handed_over(self, command: Command[Any]) -> Iterator[Event]:
        """The events of an end that leaves the rest to the graph that called this one."""
        yield from self.end("completed")
        # LangGraph has resolved what it was sent to, and above this graph nothing has a name.
        graph = command.graph or Command.PARENT
        yield (
            "command",
            {
                "graph": graph,
                "update": command.update,
                "resume": command.resume,
                "goto": _goto(command.goto),
            },
        )

    def _plain(self, mode: str, payload: Any) -> Iterator[Event]:
        if mode == "messages":
            yield from self._messages(payload)
        elif mode in self._asked:
            yield mode, self._shown(mode, payload)

    def _shown(self, mode: str, payload: Any) -> Any:
        if mode == "tools":
            return self._tool(payload)
        return _debug(payload) if mode == "debug" else payload

    def _tool(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """What happens to a tool call, in the client's words, and with the tool's name each time."""
        if payload["event"] not in _TOOL_EVENTS:
            return payload  # a graph on another server has said so already
        event, field, shown = _TOOL_EVENTS[payload["event"]]
        call_id: str = payload["tool_call_id"]
        name = self._tools.setdefault(call_id, payload.get("tool_name", ""))
        if event in ("on_tool_end", "on_tool_error"):
            del self._tools[call_id]
        return {"event": event, "toolCallId": call_id, "name": name, shown: payload.get(field)}

    def _messages(self, payload: tuple[Any, Mapping[str, Any]]) -> Iterator[Event]:
        if self._as_blocks:
            for block in protocol.blocks(payload[0]):
                yield "messages", block
            return
        if "messages-tuple" in self._asked:
            yield "messages", payload
        if "messages" in self._asked:
            yield from self._accumulated(*payload)

    def _accumulated(self, told: Any, metadata: Mapping[str, Any]) -> Iterator[Event]:
        """Each token as the message so far; a message that came whole, once and complete."""
        message = told if isinstance(told, BaseMessage) else _message(told)
        key = message.id or ""
        if key not in self._partial:
            yield "messages/metadata", {key: {"metadata": metadata}}
        if isinstance(message, BaseMessageChunk):
            before = self._partial.get(key)
            self._partial[key] = message if before is None else before + message
            yield "messages/partial", [message_chunk_to_message(self._partial[key])]
        else:
            self._partial.setdefault(key, message)
            yield "messages/complete", [message]
