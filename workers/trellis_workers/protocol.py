"""What protocol v2 asks of a run: messages as content blocks, and every state behind its checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.language_models._compat_bridge import message_to_events
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    BaseMessageChunk,
    HumanMessage,
    SystemMessage,
    message_chunk_to_message,
)
from langgraph._internal._constants import CONFIG_KEY_STREAM_MESSAGES_V2
from langgraph.pregel import Pregel
from langgraph.stream._convert import convert_to_protocol_event
from langgraph.stream._mux import StreamMux

from trellis.domain.new_run import EVENT_STREAMING

Chunk = tuple[Sequence[str], str, Any]

_ROLES: Mapping[type[BaseMessage], str] = {
    AIMessage: "ai",
    HumanMessage: "human",
    SystemMessage: "system",
}


def is_asked(config: Mapping[str, Any]) -> bool:
    """Whether a run with this config was started by a command of the protocol."""
    return bool(config["configurable"].get(EVENT_STREAMING))


def streaming(config: dict[str, Any]) -> dict[str, Any]:
    """The config with which models stream content blocks."""
    configurable = {**config["configurable"], CONFIG_KEY_STREAM_MESSAGES_V2: True}
    return {**config, "configurable": configurable}


async def chunks(
    parts: AsyncIterator[Mapping[str, Any]], extensions: Extensions
) -> AsyncIterator[Chunk]:
    """
    What LangGraph yields for such a run, in the shape that other runs have.

    It tells of a state and right after that of the checkpoint that holds it. Clients want them the other way round:
    a checkpoint is that of the state which follows.
    """
    pairs = _Pairs()
    try:
        async for part in parts:
            for chunk in await extensions.read(part):
                for each in pairs.sorted(chunk):
                    yield each
    except Exception as error:
        for each in [*pairs.rest(), *await extensions.failed(error)]:
            yield each
        raise
    for each in [*pairs.rest(), *await extensions.ended()]:
        yield each


class _Pairs:
    """Brings a state of the root graph behind its checkpoint, which comes next, if there is one."""

    def __init__(self) -> None:
        self._state: list[Chunk] = []

    def sorted(self, chunk: Chunk) -> list[Chunk]:
        """What can go out now."""
        namespace, mode, _ = chunk
        if not namespace and mode == "values":
            before, self._state = self._state, [chunk]
            return before
        if not namespace and mode == "custom":
            # A transformer may say something of the checkpoint, and says it first.
            return [chunk]
        is_pair = not namespace and mode == "checkpoints"
        return [chunk, *self.rest()] if is_pair else [*self.rest(), chunk]

    def rest(self) -> list[Chunk]:
        """What is still held."""
        held, self._state = self._state, []
        return held


class Extensions:
    """What a graph has of stream transformers: they see all its parts, and tell of them on channels of their own."""

    def __init__(self, graph: Pregel[Any, Any, Any, Any]) -> None:
        self._mux = _Mux(graph.stream_transformers) if graph.stream_transformers else None

    @property
    def modes(self) -> list[str]:
        """The stream modes that they need."""
        found = self._mux.transformers if self._mux else ()
        return [mode for each in found for mode in each.required_stream_modes]

    async def read(self, part: Mapping[str, Any]) -> list[Chunk]:
        """What goes out for a part: what they say of it, and itself, unless they hold it back."""
        if self._mux is None:
            return [(part["ns"], part["type"], _payload(part))]
        event = convert_to_protocol_event(part)  # type: ignore[arg-type]  # a union of typed dicts
        await self._mux.apush(event)
        # The part as they have changed it.
        part = {**part, "data": event["params"]["data"]}
        is_kept = "seq" in event
        kept = [(part["ns"], part["type"], _payload(part))] if is_kept else []
        return [*self._mux.taken(), *kept]

    async def ended(self) -> list[Chunk]:
        """What they say at the end."""
        if self._mux is None:
            return []
        await self._mux.aclose()
        return self._mux.taken()

    async def failed(self, error: Exception) -> list[Chunk]:
        """What they say of a failure."""
        if self._mux is None:
            return []
        await self._mux.afail(error)
        return self._mux.taken()


class _Mux(StreamMux):
    """LangGraph's dispatcher of transformers; what they say is kept here, not in its log."""

    def __init__(self, factories: Iterable[Any]) -> None:
        self._said: list[Chunk] = []
        super().__init__(factories=list(factories), is_async=True)

    @property
    def transformers(self) -> Sequence[Any]:
        return self._transformers

    def taken(self) -> list[Chunk]:
        said, self._said = self._said, []
        return said

    def _forward(self, method: str, item: Any) -> None:
        named = {"name": method.removeprefix("custom:"), "payload": item}
        self._said.append(((), "custom", named))


def blocks(told: Any) -> Iterator[Mapping[str, Any]]:
    """The events of a message: one, or all if it came whole."""
    if not isinstance(told, BaseMessage):
        yield told
        return
    message = message_chunk_to_message(told) if isinstance(told, BaseMessageChunk) else told
    role = next((role for kind, role in _ROLES.items() if isinstance(message, kind)), None)
    if role is None:
        return
    for event in message_to_events(message, message_id=message.id):
        yield {**event, "role": role} if event["event"] == "message-start" else event


def _payload(part: Mapping[str, Any]) -> Any:
    if part["type"] == "checkpoints":
        # Its state is told anyway.
        return {key: part["data"][key] for key in ("config", "parent_config", "metadata")}
    if part["type"] != "values":
        return part["data"]
    state = _fields(part["data"])
    if part["interrupts"] and isinstance(state, Mapping):
        return {**state, "__interrupt__": part["interrupts"]}
    return state


def _fields(state: Any) -> Any:
    """A state as a mapping of its channels. LangGraph makes it an instance of its schema here."""
    if hasattr(state, "model_fields_set"):  # pydantic's
        return dict(state)
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return state
