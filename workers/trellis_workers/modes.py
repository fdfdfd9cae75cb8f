"""From what the graph yields to the events that a client asked for: names, shapes, namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message

#: Client's mode → LangGraph's, where they differ.
_NATIVE = {"messages-tuple": "messages"}

_PLACE = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")

Event = tuple[str, Any]
Send = Callable[[str, Any], None]


def native_modes(asked: Sequence[str]) -> list[str]:
    """The modes to ask LangGraph for. Values always: the last ones are the run's result."""
    return list(dict.fromkeys([*(_NATIVE.get(mode, mode) for mode in asked), "values"]))


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


class Translator:
    """Turns chunks into events. One per attempt, because the `messages` mode accumulates."""

    def __init__(self, asked: Sequence[str]) -> None:
        self._asked = frozenset(asked)
        self._partial: dict[str, Any] = {}

    def events(self, namespace: Sequence[str], mode: str, payload: Any) -> Iterator[Event]:
        """The events of one chunk; a subgraph's carry its namespace behind the name."""
        suffix = "|" + "|".join(namespace) if namespace else ""
        if mode == "messages":
            for name, data in self._messages(payload):
                yield name + suffix, data
        elif mode in self._asked:
            yield mode + suffix, _debug(payload) if mode == "debug" else payload

    def _messages(self, payload: tuple[Any, Mapping[str, Any]]) -> Iterator[Event]:
        if "messages-tuple" in self._asked:
            yield "messages", payload
        if "messages" in self._asked:
            yield from self._accumulated(*payload)

    def _accumulated(self, message: BaseMessage, metadata: Mapping[str, Any]) -> Iterator[Event]:
        """Each token as the message so far; a message that came whole, once and complete."""
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
