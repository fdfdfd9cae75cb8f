"""What Postgres can store as JSON: some texts of Python are none."""

from __future__ import annotations

import re
from typing import Any

import orjson

#: A backslash that is itself escaped begins no escape.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def is_storable(value: Any) -> bool:
    """Whether a value is JSON, with no NUL and no half of a character in any text of it."""
    try:
        return not _NUL.search(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return False
