"""Stored values as JSON data: decodes any blob without importing langgraph, langchain or what a row names."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time, timedelta, timezone
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

import orjson
import ormsgpack

from trellis.errors import TrellisError

# Extension codes of langgraph's msgpack format. Importing them would cost the web process its start time.
SINGLE_ARG = 0
POSITIONAL = 1
KEYWORDS = 2
NUMPY = 6
SNAPSHOT = 7

_SECRET = "**********"

#: numpy's kind and size of a number, in the letters of `struct`.
_NUMBERS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f4": "f", "f8": "d",
}  # fmt: skip


def to_plain(kind: str, data: bytes) -> Any:
    """
    Decode a stored value to JSON data: objects become their fields, ids and times become text.

    :raises TrellisError: the row's type tag is not one that we write.
    """
    match kind:
        case "null":
            return None
        case "bytes" | "bytearray":
            return _text(data)
        case "msgpack":
            return _from_msgpack(data)
    raise TrellisError(f"A stored value has the unknown type '{kind}'.")


def _from_msgpack(data: bytes) -> Any:
    try:
        value = _unpack(data)
        # The cheapest proof that nothing in there needs work: keys are text, and no bytes are left.
        orjson.dumps(value)
    except (TypeError, ValueError):
        return _json(_with_any_keys(data))
    return value


def _unpack(data: bytes) -> Any:
    return ormsgpack.unpackb(data, ext_hook=_object)


def _with_any_keys(data: bytes) -> Any:
    hook = partial(_object, unpack=_with_any_keys)
    try:
        return ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)
    except ValueError as error:
        raise TrellisError("A stored value cannot be decoded.") from error


def _object(code: int, data: bytes, *, unpack: Callable[[bytes], Any] = _unpack) -> Any:
    """What an extension stands for."""
    content = unpack(data)
    if code == SNAPSHOT:
        return content
    if code == NUMPY:
        return _array(*content)
    if code > SNAPSHOT:
        raise ValueError(f"unknown extension {code}")
    return _shown(code, content[1], content[2])


def _shown(code: int, name: Any, fields: Any) -> Any:
    shape = _SHAPES.get((code, name)) if isinstance(name, str) else None
    if shape is None:
        return fields
    try:
        return shape(fields)
    except (TypeError, ValueError, OverflowError, LookupError, AttributeError):
        # A row that only pretends to be a date: its data, as it stands.
        return fields


def _path(parts: Sequence[str]) -> str:
    return str(PurePosixPath(*parts))


def _windows_path(parts: Sequence[str]) -> str:
    return str(PureWindowsPath(*parts))


def _seconds(args: Sequence[float]) -> float:
    return timedelta(*args).total_seconds()


def _timezone(args: Sequence[Any]) -> str:
    return args[1] if len(args) > 1 else str(timezone(timedelta(seconds=args[0])))


def _time(fields: Mapping[str, Any]) -> str:
    zone = fields["tzinfo"] or ""
    shown = time(**{**fields, "tzinfo": None}).isoformat()
    return shown + (zone[3:] or "+00:00") if zone.startswith("UTC") else shown


def _send(args: Sequence[Any]) -> dict[str, Any]:
    return {"node": args[0], "arg": args[1]}


def _interrupt(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without an absent response_schema: older clients rebuild the object from its keys."""
    return {k: v for k, v in fields.items() if k != "response_schema" or v is not None}


_SHAPES: Mapping[tuple[int, str], Callable[[Any], Any]] = {
    (SINGLE_ARG, "UUID"): lambda text: str(UUID(text)),
    (SINGLE_ARG, "SecretStr"): lambda _: _SECRET,
    (SINGLE_ARG, "SecretBytes"): lambda _: _SECRET,
    (POSITIONAL, "Path"): _path,
    (POSITIONAL, "PosixPath"): _path,
    (POSITIONAL, "WindowsPath"): _windows_path,
    (POSITIONAL, "compile"): lambda args: args[0],
    (POSITIONAL, "timedelta"): _seconds,
    (POSITIONAL, "date"): lambda args: date(*args).isoformat(),
    (POSITIONAL, "timezone"): _timezone,
    (POSITIONAL, "Send"): _send,
    (KEYWORDS, "time"): _time,
    (KEYWORDS, "Interrupt"): _interrupt,
}


def _array(dtype: str, shape: Sequence[int], order: str, data: bytes) -> Any:
    """A numpy array as nested lists; one whose elements are no plain numbers, as text."""
    letter = _NUMBERS.get(dtype[1:])
    if letter is None:
        return _text(data)
    count = len(data) // int(dtype[2:])
    numbers = struct.unpack(f"{'>' if dtype[0] == '>' else '<'}{count}{letter}", data)
    return _nested(list(numbers), list(shape), transposed=order == "F")


def _nested(numbers: list[Any], shape: list[int], *, transposed: bool) -> Any:
    if not shape:
        return numbers[0]
    if len(shape) == 1:
        return numbers
    if transposed:
        rows = [numbers[row :: shape[0]] for row in range(shape[0])]
    else:
        width = len(numbers) // shape[0] if shape[0] else 0
        rows = [numbers[row * width : (row + 1) * width] for row in range(shape[0])]
    return [_nested(row, shape[1:], transposed=transposed) for row in rows]


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, bytes):
        return _text(value)
    return value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, tuple | bytes):
        return str(key)
    return orjson.dumps(key).decode()


def _text(data: bytes) -> str:
    """Bytes as the stream shows them."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()
