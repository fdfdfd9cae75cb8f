"""Messages of the older stream modes as content blocks: start, deltas, finish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

Namespace = tuple[str, ...]
Data = dict[str, Any]
Placed = tuple[Namespace, Data]

#: Type of a message → its author. Results of tools have a channel of their own, and removals are no messages.
_ROLES = {"ai": "ai", "AIMessageChunk": "ai", "human": "human", "system": "system"}
_ROLES |= {"HumanMessageChunk": "human", "SystemMessageChunk": "system"}
#: Parts of a content that the message's tool calls say again.
_CALLS = frozenset({"tool_use", "tool_call", "tool_call_chunk", "input_json_delta"})
#: Blocks that grow → the delta they grow by, and the field.
_GROWS = {
    "text": ("text-delta", "text"),
    "reasoning": ("reasoning-delta", "reasoning"),
    "tool_call_chunk": ("tool-call-delta", "args"),
}


class Message:
    """One message and its blocks so far."""

    def __init__(self) -> None:
        self._blocks: dict[Any, Data] = {}
        self._usage: Any = None
        self._metadata: Data = {}
        self._calls: list[Data] = []

    def start(self, told: Mapping[str, Any]) -> Data:
        """The event that opens it."""
        about = told.get("response_metadata") or {}
        hints = {"provider": about.get("model_provider"), "model": about.get("model_name")}
        shown = {key: hint for key, hint in hints.items() if hint}
        start = {"event": "message-start", "role": _ROLES[told["type"]], "id": _id(told)}
        return {**start, **({"metadata": shown} if shown else {})}

    def grow(self, chunk: Mapping[str, Any]) -> Iterator[Data]:
        """A chunk of it comes in."""
        self._note(chunk)
        for key, block in _parts(chunk.get("content")):
            yield from self._add(key, block)
        for n, call in enumerate(chunk.get("tool_call_chunks") or ()):
            index = call.get("index")
            block = {**call, "type": "tool_call_chunk", "args": call.get("args") or ""}
            yield from self._add(("call", n if index is None else index), block)

    def become(self, told: Mapping[str, Any]) -> Iterator[Data]:
        """It is told anew, as it is by now."""
        self._note(told)
        for key, block in _parts(told.get("content")):
            field = _GROWS.get(block["type"], ("", ""))[1]
            before = self._blocks.get(key, {}).get(field, "") if field else None
            if before is not None and block[field].startswith(before):
                yield from self._add(key, {**block, field: block[field][len(before) :]})
            elif key not in self._blocks:
                yield from self._add(key, block)
        invalid = told.get("invalid_tool_calls") or ()
        self._calls = [
            *(told.get("tool_calls") or ()),
            *({**call, "type": "invalid_tool_call"} for call in invalid),
        ]

    def finish(self) -> Iterator[Data]:
        """The events that close its blocks, and it."""
        for call in self._calls:
            yield from self._add(("whole", len(self._blocks)), {"type": "tool_call", **call})
        for index, block in enumerate(self._blocks.values()):
            yield {"event": "content-block-finish", "index": index, "content": _final(block)}
        usage = {"usage": self._usage} if self._usage else {}
        metadata = {"metadata": self._metadata} if self._metadata else {}
        yield {"event": "message-finish", **usage, **metadata}

    def _note(self, told: Mapping[str, Any]) -> None:
        self._usage = told.get("usage_metadata") or self._usage
        self._metadata |= told.get("response_metadata") or {}

    def _add(self, key: Any, block: Data) -> Iterator[Data]:
        kind, field = _GROWS.get(block["type"], ("", ""))
        known = self._blocks.get(key)
        if known is None:
            known = self._blocks[key] = {**block, field: ""} if field else block
            shown = {name: item for name, item in known.items() if name != "index" or not field}
            yield {**self._at("content-block-start", key), "content": shown}
        if field and (new := block[field]):
            known[field] += new
            yield {**self._at("content-block-delta", key), "delta": {"type": kind, field: new}}

    def _at(self, event: str, key: Any) -> Data:
        return {"event": event, "index": list(self._blocks).index(key)}


class Blocks:
    """The messages of one run that are on their way."""

    def __init__(self) -> None:
        self._open: dict[tuple[Namespace, str], Message] = {}
        #: Those that were told piece by piece: the modes that tell of whole messages repeat them.
        self._told: set[str] = set()
        #: Of messages that are content blocks in the log: how many are on their way.
        self._native: dict[Namespace, int] = {}

    def saw(self, namespace: Namespace, data: bytes) -> None:
        """Take note of a message that passes as it is."""
        if data.startswith(b'{"event":"message-start"'):
            self._native[namespace] = self._native.get(namespace, 0) + 1
        elif data.startswith((b'{"event":"message-finish"', b'{"event":"error"')):
            self._native[namespace] = self._native.get(namespace, 1) - 1

    def of_chunk(self, namespace: Namespace, told: Mapping[str, Any]) -> Iterator[Data]:
        """What `messages-tuple` tells: a chunk of a message, or one that came whole."""
        if told.get("type") not in _ROLES:
            return
        self._told.add(_id(told))
        if not told["type"].endswith("Chunk"):
            yield from self._whole(namespace, told)
            return
        if (namespace, _id(told)) not in self._open:
            yield self._start(namespace, told)
        yield from self._open[namespace, _id(told)].grow(told)
        if told.get("chunk_position") == "last":
            yield from self._finish(namespace, _id(told))

    def of_partial(self, namespace: Namespace, told: Mapping[str, Any]) -> Iterator[Data]:
        """What `messages` tells of a message that is being written: all of it so far."""
        if told.get("type") not in _ROLES or _id(told) in self._told:
            return
        if (namespace, _id(told)) not in self._open:
            yield from self._others(namespace)
            yield self._start(namespace, told)
        yield from self._open[namespace, _id(told)].become(told)

    def of_whole(self, namespace: Namespace, told: Mapping[str, Any]) -> Iterator[Data]:
        """What `messages` tells of a message that came whole."""
        if told.get("type") in _ROLES and _id(told) not in self._told:
            yield from self._others(namespace)
            yield from self._whole(namespace, told)

    def abandoned(self) -> Iterator[Placed]:
        """Nothing more will come of what is on its way: the attempt is over, or the run."""
        for namespace, count in self._native.items():
            yield from [(namespace, {"event": "message-finish"})] * count
        self._native.clear()
        for namespace, message_id in list(self._open):
            for data in self._finish(namespace, message_id):
                yield namespace, data

    def _others(self, namespace: Namespace) -> Iterator[Data]:
        """
        Another message begins where it is not told which piece of one is the last.

        Of two that are written at once, the first ends here: clients could not tell their pieces apart.
        """
        for place, message_id in list(self._open):
            if place == namespace:
                self._told.add(message_id)
                yield from self._finish(place, message_id)

    def _whole(self, namespace: Namespace, told: Mapping[str, Any]) -> Iterator[Data]:
        yield self._start(namespace, told)
        yield from self._open[namespace, _id(told)].become(told)
        yield from self._finish(namespace, _id(told))

    def _start(self, namespace: Namespace, told: Mapping[str, Any]) -> Data:
        message = self._open[namespace, _id(told)] = Message()
        return message.start(told)

    def _finish(self, namespace: Namespace, message_id: str) -> Iterator[Data]:
        return self._open.pop((namespace, message_id)).finish()


def _id(told: Mapping[str, Any]) -> str:
    return str(told.get("id") or "")


def _parts(content: Any) -> Iterator[tuple[Any, Data]]:
    """The blocks of a content, each under a key that its later pieces have too."""
    parts = [content] if isinstance(content, str) else content
    for n, part in enumerate(parts if isinstance(parts, list) else ()):
        block = _block(part)
        if block is not None:
            index = block.get("index")
            yield (block["type"], n if index is None else index), block


def _block(part: Any) -> Data | None:
    """One part of a content as a block; None if there is nothing in it, or its tool calls say it."""
    if isinstance(part, str):
        return {"type": "text", "text": part} if part else None
    if not isinstance(part, dict) or part.get("type") in _CALLS:
        return None
    match part.get("type"):
        case "thinking":
            rest = {key: item for key, item in part.items() if key not in ("type", "thinking")}
            return {**rest, "type": "reasoning", "reasoning": str(part.get("thinking") or "")}
        case "text" | "reasoning" as kind:
            return {**part, kind: str(part.get(kind) or "")}
        case "image" | "video" | "audio" | "file" | "non_standard":
            return part
        case _:
            return {"type": "non_standard", "value": part}


def _final(block: Data) -> Data:
    """A block that is complete: pieces of a call become a call, if they are one."""
    if block["type"] != "tool_call_chunk":
        return block
    call = {"id": block.get("id"), "name": block.get("name")}
    try:
        args = orjson.loads(block["args"] or "{}")
    except orjson.JSONDecodeError:
        args = None
    if isinstance(args, dict):
        return {"type": "tool_call", **call, "args": args}
    return {"type": "invalid_tool_call", **call, "args": block["args"], "error": None}
