"""JSON and text as columns of Postgres take them."""

from __future__ import annotations

from typing import Any

import orjson

from trellis.errors import Invalid


def as_json(value: Any) -> str:
    """
    JSON as jsonb takes it.

    :raises Invalid: it is no JSON, or holds a NUL, which jsonb cannot store.
    """
    try:
        text = orjson.dumps(value)
    except TypeError as error:
        raise Invalid(f"The store holds JSON only: {error}.") from error
    if rb"\u0000" in text and _holds_nul(orjson.loads(text)):
        raise Invalid("The store cannot hold the character NUL.")
    return text.decode()


def as_text(value: str) -> str:
    """A text as a column takes it. It raises what `as_json` does."""
    as_json(value)
    return value


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(part) for item in value.items() for part in item)
    return isinstance(value, list) and any(_holds_nul(part) for part in value)
