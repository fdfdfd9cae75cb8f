"""How a checkpoint's parts become column values: compressed bytes, version strings, ids, JSON that Postgres accepts."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from functools import lru_cache
from random import Random
from typing import Any
from uuid import UUID

import orjson
import ormsgpack

from trellis.errors import Invalid, TrellisError

#: Below this many bytes compressing costs more than it saves.
_WORTH_COMPRESSING = 512
_RAW = b"r"
_ZLIB = b"z"


def pack(data: bytes) -> bytes:
    """Compress, if it is worth it; the first byte says whether."""
    if len(data) > _WORTH_COMPRESSING:
        packed = zlib.compress(data, 1)
        if len(packed) < len(data):
            return _ZLIB + packed
    return _RAW + data


def unpack(data: bytes) -> bytes:
    """
    The inverse of `pack`.

    :raises TrellisError: the row was not written by it.
    """
    tag, content = data[:1], data[1:]
    if tag == _ZLIB:
        return zlib.decompress(content)
    if tag == _RAW:
        return content
    raise TrellisError("A checkpoint row has an unknown encoding.")


def pack_body(body: Mapping[str, Any]) -> bytes:
    """A checkpoint without its channel values. It holds plain data only."""
    return pack(ormsgpack.packb(body, option=ormsgpack.OPT_REPLACE_SURROGATES))


def unpack_body(data: bytes | memoryview) -> dict[str, Any]:
    """A checkpoint's body from its column, which psycopg2 gives as a memoryview."""
    body: dict[str, Any] = ormsgpack.unpackb(unpack(bytes(data)))
    return body


_random = Random()
os.register_at_fork(after_in_child=_random.seed)


def next_version(current: str | int | float | None) -> str:
    """
    The version after `current`: sorts behind it, and is never made twice, on any branch of a thread.

    The random part comes from a generator of our own, which a forked process seeds anew: nodes seed the shared one.
    """
    count = int(str(current).split(".")[0] or 0) if current else 0
    return f"{count + 1:08d}.{_random.getrandbits(40):010x}"


@lru_cache(maxsize=4096)
def as_uuid(text: str, *, what: str) -> str:
    """
    An id as Postgres spells it.

    :raises Invalid: it is no UUID; `what` names it in the message.
    """
    try:
        return str(UUID(text))
    except (ValueError, AttributeError, TypeError) as error:
        raise Invalid(f"{what} must be a UUID, not {text!r}.") from error


def uuid_or_none(text: Any) -> str | None:
    """The id as Postgres spells it; None if it is not a UUID."""
    try:
        return str(UUID(text))
    except (ValueError, AttributeError, TypeError):
        return None


def to_json(value: Mapping[str, Any]) -> str:
    """JSON for a jsonb column. What jsonb refuses (NUL, lone surrogates) becomes U+FFFD."""
    try:
        text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        text = orjson.dumps(_clean(value), default=str, option=orjson.OPT_NON_STR_KEYS)
    if rb"\u0000" in text:
        text = orjson.dumps(_clean(value), default=str, option=orjson.OPT_NON_STR_KEYS)
    return text.decode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value.replace("\0", "\ufffd")
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    if isinstance(value, int) and abs(value) >> 63:
        return str(value)
    return value if isinstance(value, int | float | None) else _clean(str(value))
