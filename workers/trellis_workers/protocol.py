"""What protocol v2 asks of a run: messages as content blocks, and every state behind its checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
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
from pydantic import BaseModel

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


async def chunks(parts: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[Chunk]:
    """
    What LangGraph yields for such a run, in the shape that other runs have.

    It tells of a state and right after that of the checkpoint that holds it. Clients want them the other way round:
    a checkpoint is that of the state which follows.
    """
    held: list[Chunk] = []
    try:
        async for part in parts:
            chunk = part["ns"], part["type"], _payload(part)
            follows = chunk[1] == "checkpoints" and not chunk[0]
            if follows:
                yield chunk
            for each in held:
                yield each
            held.clear()
            if chunk[1] == "values" and not chunk[0]:
                held.append(chunk)
            elif not follows:
                yield chunk
    except Exception:
        for each in held:
            yield each
        raise
    for each in held:
        yield each


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
    if isinstance(state, BaseModel):
        return dict(state)
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return state
