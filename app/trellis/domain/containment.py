"""Whether one JSON value is contained in another, by the rules of Postgres's `@>` for jsonb."""

from __future__ import annotations

from typing import Any


def contains(value: Any, part: Any) -> bool:
    """Whether `value` has everything that `part` has: objects key by key, lists in any order and number."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], wanted) for key, wanted in part.items()
        )
    if isinstance(part, list):
        return isinstance(value, list) and all(
            any(contains(element, wanted) for element in value) for wanted in part
        )
    # In JSON, unlike in Python, true is not 1.
    return isinstance(value, bool) == isinstance(part, bool) and bool(value == part)
