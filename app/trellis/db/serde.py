"""
The serialiser of checkpoints: langgraph's format, read with a closed list of types.

A row names the classes of what it holds. Nothing that it names is imported: the names are looked up in a table of
classes that this process already trusts (langgraph's safe types, and those of its graphs' schemas). What is not in
the table comes back as plain data, with one warning per type.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import orjson
import ormsgpack
from langchain_core import messages
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Send
from pydantic import BaseModel

from trellis.errors import TrellisError

_log = logging.getLogger(__name__)

Name = tuple[str, str]
Types = Mapping[Name, Any]

#: Types that were warned of. Bounded, because a row may name anything.
_warned: set[Name] = set()
_WARNINGS = 1000

_FLAGS = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_REPLACE_SURROGATES
)


def serializer(extra_types: Iterable[type] = ()) -> SerializerProtocol:
    """The serialiser that rebuilds langgraph's safe types and `extra_types`, and nothing else."""
    extra = {(cls.__module__, cls.__name__): cls for cls in extra_types}
    return StrictSerializer({**_safe_types(), **extra})


class StrictSerializer(JsonPlusSerializer):
    """langgraph's serialiser with a table of classes in place of imports."""

    def __init__(self, types: Types) -> None:
        super().__init__(
            pickle_fallback=False,
            allowed_json_modules=None,
            allowed_msgpack_modules=tuple(types),
            __unpack_ext_hook__=_hook(types),
        )
        self._types = types

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[Any]) -> StrictSerializer:
        """
        Trust further classes. Pregel calls it, under LANGGRAPH_STRICT_MSGPACK, with those of its own schemas.

        A class that is only named is looked up among the modules that are loaded, not imported.
        """
        extra = dict(found for entry in extra_allowlist if (found := _loaded(entry)))
        return (
            self
            if extra.keys() <= self._types.keys()
            else StrictSerializer({**self._types, **extra})
        )

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """
        Rebuild a value.

        :raises TrellisError: the row's type tag is not one that we write, or its bytes make no sense.
        """
        kind, content = data
        if kind == "json":
            _warn_once(
                (kind, kind), "A checkpoint holds a value tagged 'json'; it stays plain data."
            )
            return orjson.loads(content)
        if kind not in ("null", "bytes", "bytearray", "msgpack"):
            raise TrellisError(f"A checkpoint holds a value of the unknown type '{kind}'.")
        try:
            return super().loads_typed((kind, content))
        except ValueError as error:
            raise TrellisError("A value in a checkpoint cannot be decoded.") from error


def fingerprint(values: Sequence[Any], *, serde: SerializerProtocol) -> bytes:
    """
    Bytes that differ whenever what would be stored of `values` differs.

    Several times cheaper than serialising, as messages are packed by their fields. The bytes of two lists,
    one after the other, are those of the joined list.
    """
    plain = _plain_messages()

    def default(value: Any) -> Any:
        if type(value) in plain:
            return type(value).__name__, value.__dict__, value.__pydantic_extra__
        return serde.dumps_typed(value)

    packed = ormsgpack.packb(list(values), default=default, option=_FLAGS)
    # Without the array's header, which holds the length (msgpack: fixarray, array 16, array 32).
    return packed[1 if len(values) < 16 else 3 if len(values) < 65536 else 5 :]


def _warn_once(name: Name, message: str, *args: object) -> None:
    if name not in _warned and len(_warned) < _WARNINGS:
        _warned.add(name)
        _log.warning(message, *args)


@cache
def _safe_types() -> Types:
    """The classes of langgraph's own safe list, as far as this Python has them."""
    found = {}
    for module, name in SAFE_MSGPACK_TYPES:
        try:
            found[module, name] = getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return found


def _loaded(entry: type | tuple[str, ...]) -> tuple[Name, Any] | None:
    if isinstance(entry, type):
        return (entry.__module__, entry.__name__), entry
    found = getattr(sys.modules.get(entry[0]), entry[1], None)
    return ((entry[0], entry[1]), found) if found is not None else None


@cache
def _plain_messages() -> Mapping[Any, frozenset[str]]:
    """
    The message classes that are their fields and nothing more, with the names of these fields.

    Validating them again takes most of the time of a load, and cannot change what came out of `model_dump`.
    A class that grows private state, computed fields, serialisers or a post-init hook drops out by itself.
    """
    found = (getattr(messages, name) for name in messages.__all__)
    return {cls: frozenset(cls.model_fields) for cls in found if _is_plain(cls)}


def _is_plain(cls: Any) -> bool:
    if not (isinstance(cls, type) and issubclass(cls, messages.BaseMessage)):
        return False
    decorators = cls.__pydantic_decorators__
    return (
        cls.model_config.get("extra") == "allow"
        and cls.model_post_init is BaseModel.model_post_init
        and not cls.__private_attributes__
        and not cls.model_computed_fields
        and not decorators.model_serializers
        and not decorators.field_serializers
    )


def _message(cls: Any, fields: dict[str, Any]) -> Any:
    """A message from its dumped fields, as `cls(**fields)` would make it."""
    built = cls.__new__(cls)
    put = object.__setattr__
    put(built, "__dict__", fields)
    put(built, "__pydantic_fields_set__", set(fields))
    put(built, "__pydantic_extra__", {})
    put(built, "__pydantic_private__", None)
    return built


def _pydantic(cls: Any, fields: dict[str, Any]) -> Any:
    try:
        return cls(**fields)
    except Exception:
        # The schema may have changed since the row was written: its data is worth more than its validity.
        construct = getattr(cls, "model_construct", None) or cls.construct
        return construct(**fields)


def _positional(cls: Any, args: Sequence[Any]) -> Any:
    if cls is Send and len(args) > 2:
        return Send(args[0], args[1], timeout=args[2])
    return cls(*args)


_BUILD: Mapping[int, Callable[[Any, Any], Any]] = {
    jsonplus.EXT_CONSTRUCTOR_SINGLE_ARG: lambda cls, arg: cls(arg),
    jsonplus.EXT_CONSTRUCTOR_POS_ARGS: _positional,
    jsonplus.EXT_CONSTRUCTOR_KW_ARGS: lambda cls, fields: cls(**fields),
    jsonplus.EXT_PYDANTIC_V1: _pydantic,
    jsonplus.EXT_PYDANTIC_V2: _pydantic,
}


def _hook(types: Types) -> Callable[[int, bytes], Any]:
    """What ormsgpack calls for each object in a row."""
    plain = _plain_messages()

    def unpack(data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)

    def hook(code: int, data: bytes) -> Any:
        content = unpack(data)
        if code == jsonplus.EXT_DELTA_SNAPSHOT:
            return _DeltaSnapshot(content)
        if code == jsonplus.EXT_NUMPY_ARRAY:
            return _array(*content)
        if code == jsonplus.EXT_METHOD_SINGLE_ARG:
            return _called(types, *content)
        if code not in _BUILD:
            raise ValueError(f"unknown extension {code}")
        name, payload = (content[0], content[1]), content[2]
        known = types.get(name)
        if code == jsonplus.EXT_PYDANTIC_V2 and plain.get(known) == payload.keys():
            return _message(known, payload)
        return _built(code, known, payload, name=name)

    return hook


def _built(code: int, known: Any, payload: Any, *, name: Name) -> Any:
    if known is None:
        _warn_once(
            name,
            "A checkpoint holds a %s.%s, which no graph's schema names; it stays plain data.",
            *name,
        )
        return payload
    build = _BUILD[code]
    try:
        return build(known, payload)
    except Exception as error:
        # A class of the user's may raise anything. Losing the value would be worse than its plain data.
        _warn_once(
            name,
            "A stored %s.%s could not be rebuilt (%s); it stays plain data.",
            *name,
            type(error).__name__,
        )
        return payload


def _called(types: Types, module: str, name: str, payload: Any, method: str) -> Any:
    if (module, name, method) in SAFE_MSGPACK_METHODS:
        return getattr(types[module, name], method)(payload)
    _warn_once(
        (module, name),
        "A checkpoint asks for %s.%s.%s; its argument stays plain data.",
        module,
        name,
        method,
    )
    return payload


def _array(dtype: str, shape: Sequence[int], order: str, data: bytes) -> Any:
    """A numpy array. Whoever stored one has numpy, so that a row cannot make us import it."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        _warn_once(
            ("numpy", "ndarray"),
            "A checkpoint holds a numpy array, and numpy is not loaded; it stays bytes.",
        )
        return data
    return numpy.frombuffer(data, dtype=numpy.dtype(dtype)).reshape(shape, order=order)
