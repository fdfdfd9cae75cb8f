"""Which classes a graph's state may hold: those that its schemas name, however deep."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

#: Modules whose classes need no permission, or deserve none: `typing.Any`, `pydantic.BaseModel`, containers.
_FOREIGN = frozenset(
    {"builtins", "typing", "typing_extensions", "abc", "enum", "collections.abc", "types"}
)
_ROOTS = frozenset({("pydantic.main", "BaseModel"), ("pydantic.v1.main", "BaseModel")})


def state_types(graph: Any) -> set[type]:
    """The classes to allow when a checkpoint of this graph, or of its subgraphs, is read."""
    seen: dict[int, Any] = {}
    for pregel in (graph, *(sub for _, sub in graph.get_subgraphs(recurse=True))):
        for annotation in _annotations(pregel):
            _walk(annotation, seen)
    return {
        cls for found in seen.values() if _is_ours(found) for cls in (found, *_descendants(found))
    }


def _annotations(pregel: Any) -> Iterator[Any]:
    """Everything that says what a graph's state looks like."""
    for channel in pregel.channels.values():
        yield getattr(channel, "ValueType", None)
        yield getattr(channel, "UpdateType", None)
    yield pregel.context_schema
    builder = getattr(pregel, "builder", None)
    for name in ("state_schema", "input_schema", "output_schema", "context_schema"):
        yield getattr(builder, name, None)
    yield from getattr(builder, "schemas", {})
    for node in getattr(builder, "nodes", {}).values():
        yield getattr(node, "input_schema", None)
    if builder is None:
        yield from _signatures(pregel)


def _signatures(pregel: Any) -> Iterator[Any]:
    """An @entrypoint has no schema but its function's annotations, which may be text."""
    for node in pregel.nodes.values():
        for function in (getattr(node.bound, "func", None), getattr(node.bound, "afunc", None)):
            while isinstance(function, functools.partial):
                function = function.args[0] if function.args else function.func
            yield from (
                _hints(inspect.unwrap(function)).values() if inspect.isroutine(function) else ()
            )


def _walk(annotation: Any, seen: dict[int, Any]) -> None:
    if annotation is None or id(annotation) in seen:
        return
    # The annotation itself is kept, so that its id stays its own.
    seen[id(annotation)] = annotation
    for part in _parts(annotation):
        _walk(part, seen)


def _parts(annotation: Any) -> Iterable[Any]:
    origin = get_origin(annotation)
    if origin is typing.Literal:
        return [type(value) for value in get_args(annotation)]
    if origin is typing.Annotated:
        return get_args(annotation)[:1]
    if origin is not None:
        return [origin, *_flat(get_args(annotation))]
    aliased = getattr(annotation, "__value__", None) or getattr(annotation, "__supertype__", None)
    if aliased is not None:
        return [aliased]
    if isinstance(annotation, typing.TypeVar):
        return [annotation.__bound__, *annotation.__constraints__]
    return _fields(annotation) if isinstance(annotation, type) else []


def _flat(args: Iterable[Any]) -> Iterator[Any]:
    """The parts of `Callable[[A, B], C]` as one sequence."""
    for arg in args:
        yield from arg if isinstance(arg, list) else [arg]


def _fields(cls: type) -> list[Any]:
    if cls.__module__ in _FOREIGN or issubclass(cls, Enum):
        return []
    models = getattr(cls, "model_fields", None) or getattr(cls, "__fields__", None) or {}
    declared = [getattr(field, "annotation", None) for field in models.values()]
    if dataclasses.is_dataclass(cls):
        declared += [field.type for field in dataclasses.fields(cls)]
    return declared + list(_hints(cls).values())


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        # A name that only a type checker can see. What needs no such name is still known.
        return {
            k: v for k, v in getattr(cls, "__annotations__", {}).items() if not isinstance(v, str)
        }


def _is_ours(found: Any) -> bool:
    return (
        isinstance(found, type)
        and get_origin(found) is None
        and found.__module__ not in _FOREIGN
        and (found.__module__, found.__name__) not in _ROOTS
        # A TypedDict, of typing or of typing_extensions: its values are dicts.
        and not (issubclass(found, dict) and hasattr(found, "__total__"))
    )


def _descendants(cls: type) -> Iterator[type]:
    """A field of type Shape may hold a Circle."""
    if _is_open(cls):
        children: list[type] = type.__subclasses__(cls)
        for child in children:
            yield child
            yield from _descendants(child)


def _is_open(cls: type) -> bool:
    """Whether a schema that names this class means its subclasses too: libraries' roots would mean everything."""
    return (
        dataclasses.is_dataclass(cls) or hasattr(cls, "model_fields") or hasattr(cls, "__fields__")
    )
