"""Values of a graph as JSON bytes: what the client will get, encoded once, whatever the user put in."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections import UserDict, UserList, deque
from collections.abc import Callable, Mapping, Set
from datetime import timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, cast

import orjson

from trellis.domain.messages import compacted

#: Dataclasses go through `_shallow`, because an Interrupt is not shown with all its fields.
_FAST = orjson.OPT_PASSTHROUGH_DATACLASS
_ANY_KEYS = _FAST | orjson.OPT_NON_STR_KEYS

#: A state nested deeper than this is shown up to here, then as text; orjson itself stops at 254.
_MAX_DEPTH = 200
_MAX_TEXT = 1_000


def dumps(value: object, *, compact: bool = False) -> bytes:
    """
    Encode any value on one line. Never raises: what JSON cannot say is said as text.

    `compact` leaves the empty fields of messages out.
    """
    step = _compact if compact else _shallow
    try:
        return orjson.dumps(value, step, _FAST)
    except (TypeError, RecursionError):
        pass
    # Keys that are no strings are rare, and accepting them doubles the cost of every dict.
    try:
        return orjson.dumps(value, step, _ANY_KEYS)
    except (TypeError, RecursionError):
        pass
    try:
        return orjson.dumps(_plain(value, 0, set()), None, _FAST)
    except (TypeError, RecursionError):
        return orjson.dumps(_utf8(_text(value)))


def _shallow(value: object) -> Any:
    """One step towards JSON: the hook that orjson calls for a type it does not know."""
    try:
        return _encoder_of(type(value))(value)  # type: ignore[arg-type]  # mypy takes classes for unhashable
    except Exception:  # user code: a property, a serializer or a __str__ that fails
        return _text(value)


def _compact(value: object) -> Any:
    shown = _shallow(value)
    return compacted(shown) if _encoder_of(type(value)) is _message else shown  # type: ignore[arg-type]  # likewise


@lru_cache(maxsize=1024)
def _encoder_of(cls: type) -> Callable[[Any], Any]:
    """How values of a class are encoded. Classes are known by name: nothing of theirs is imported."""
    if cls.__module__.startswith("langchain_core.messages"):
        return _message
    if cls.__module__ == "langgraph.types" and cls.__name__ == "Interrupt":
        return _interrupt
    if callable(getattr(cls, "model_dump", None)):
        return _model
    if hasattr(cls, "__fields__") and callable(getattr(cls, "dict", None)):
        return _model_v1
    if dataclasses.is_dataclass(cls):
        return _fields
    for known, encode in _BY_BASE.items():
        if issubclass(cls, known):
            return encode
    if hasattr(cls, "tolist") and hasattr(cls, "dtype"):  # numpy, torch, and what imitates them
        return _array
    return _text


def _message(message: Any) -> Any:
    """A message as `model_dump()` shows it, at a twentieth of the cost."""
    values: dict[str, Any] = message.__dict__
    extra = message.__pydantic_extra__
    return {**values, **extra} if extra else values


def _interrupt(interrupt: Any) -> dict[str, Any]:
    # Older clients rebuild it with Interrupt(**data) and know no response_schema.
    shown = {"value": interrupt.value, "id": interrupt.id}
    if (schema := getattr(interrupt, "response_schema", None)) is not None:
        shown["response_schema"] = schema
    return shown


def _model(model: Any) -> Any:
    return model.model_dump()


def _model_v1(model: Any) -> Any:
    return model.dict()


def _fields(instance: Any) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(instance))
    return {name: getattr(instance, name) for name in names if hasattr(instance, name)}


def _tuple(value: Any) -> Any:
    return value._asdict() if hasattr(value, "_asdict") else list(value)


def _array(value: Any) -> Any:
    return value.tolist()


def _bytes(value: Any) -> str:
    raw = bytes(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()


def _integer(value: Any) -> Any:
    """An integer beyond 64 bits: its digits while a reader can hold them as a number, else a string."""
    number = int(value)
    if -(2**63) <= number < 2**64:
        return number
    if abs(number) < 10**308:
        return orjson.Fragment(str(number))
    return hex(number)  # decimal digits of this length are refused by Python itself


def _float(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _text(value: object) -> str:
    """The value as text, cut to a length a client can bear."""
    for render in (_readable, repr):
        try:
            return render(value)[:_MAX_TEXT]
        except Exception:  # user code: __str__ and __repr__ may do anything
            continue
    return f"<{type(value).__name__}>"


def _readable(value: object) -> str:
    return repr(value) if isinstance(value, BaseException | type) else str(value)


def _utf8(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced, so that it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


_BY_BASE: Mapping[type, Callable[[Any], Any]] = {
    tuple: _tuple,
    set: list,
    frozenset: list,
    deque: list,
    Set: list,
    UserDict: dict,
    UserList: list,
    Mapping: dict,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    float: _float,
    timedelta: timedelta.total_seconds,
}


def _plain(value: Any, depth: int, path: set[int]) -> Any:
    """Rebuild a value that orjson refuses (cycles, depth, lone surrogates, huge integers, odd keys)."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and not isinstance(value, Enum):
        return _utf8(str(value))
    if isinstance(value, int) and not isinstance(value, Enum):
        return _integer(value)
    if isinstance(value, float) and not isinstance(value, Enum):
        return _float(value)
    if depth >= _MAX_DEPTH or id(value) in path:
        return _utf8(_text(value))
    path.add(id(value))
    try:
        return _plain_inside(value, depth + 1, path)
    finally:
        path.discard(id(value))


def _plain_inside(value: Any, depth: int, path: set[int]) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, depth, path)
    if isinstance(value, dict):
        return {_key(key): _plain(item, depth, path) for key, item in list(value.items())}
    if type(value) is tuple or isinstance(value, list):
        return [_plain(item, depth, path) for item in list(value)]
    if (native := _native(value)) is not None:
        return native
    return _plain(_shallow(value), depth, path)


def _native(value: Any) -> orjson.Fragment | None:
    """Types that orjson knows by itself: dates, times, UUIDs."""
    try:
        return orjson.Fragment(orjson.dumps(value, None, _FAST))
    except TypeError:
        return None


def _key(key: object) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return _utf8(str(key))
    try:
        encoded = orjson.dumps({key: None}, None, _ANY_KEYS)
    except TypeError:
        return _utf8(_text(key))
    return cast(str, next(iter(orjson.loads(encoded))))
