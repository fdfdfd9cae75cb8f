"""Chat messages as JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What a message always says, in this order.
_ALWAYS = ("type", "content", "id")


def compacted(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without its empty fields."""
    first = {name: message[name] for name in _ALWAYS if name in message}
    rest = {key: item for key, item in message.items() if key not in first and not _is_empty(item)}
    return first | rest


def _is_empty(item: Any) -> bool:
    return item is None or (isinstance(item, dict | list) and not item)


def is_message(value: Mapping[str, Any]) -> bool:
    """Whether an object is a message with all its fields."""
    return (
        "additional_kwargs" in value and "content" in value and isinstance(value.get("type"), str)
    )


def compact_all(value: Any) -> Any:
    """A JSON value with all messages in it compacted."""
    if isinstance(value, list):
        return [compact_all(item) for item in value]
    if not isinstance(value, dict):
        return value
    if is_message(value):
        return compacted(value)
    return {key: compact_all(item) for key, item in value.items()}
