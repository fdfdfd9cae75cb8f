"""How large metadata may be: they are copied around with every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from trellis.errors import Invalid

#: Sent at once.
MAX_BYTES = 64 * 1024
#: With what was there already, the server's own keys included.
MAX_MERGED_BYTES = 2 * MAX_BYTES


def check_sent(metadata: Mapping[str, Any]) -> None:
    """:raises Invalid: a client sends too much at once."""
    if len(orjson.dumps(metadata)) > MAX_BYTES:
        raise Invalid(f"metadata is larger than {MAX_BYTES} bytes. Keep it small.")


def check_merged(metadata: Mapping[str, Any]) -> None:
    """:raises Invalid: it has grown too large, key by key."""
    if len(orjson.dumps(metadata)) > MAX_MERGED_BYTES:
        raise Invalid(
            f"metadata would be larger than {MAX_MERGED_BYTES} bytes with what is there already. "
            "Set keys that nobody needs to null."
        )
