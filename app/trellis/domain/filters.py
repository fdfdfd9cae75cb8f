"""A store's filter on values that Postgres cannot read, by the rules of the search statement."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from trellis.errors import Invalid

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def meets(value: Any, conditions: Iterable[Mapping[str, Any]]) -> bool:
    """
    Whether an item's value meets every condition. What is missing is null.

    :raises Invalid: lists or objects are to be ordered.
    """
    return all(_meets(_found(value, c["path"]), c["operator"], c["operand"]) for c in conditions)


def _found(value: Any, path: Iterable[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _meets(found: Any, comparison: str, wanted: Any) -> bool:
    match comparison:
        case "object":
            return isinstance(found, dict)
        case "$eq":
            return _is_same(found, wanted)
        case "$ne":
            return not _is_same(found, wanted)
    if isinstance(wanted, dict | list):
        raise Invalid(f"{comparison} cannot order lists or objects in an encrypted store.")
    if _kind(found) != _kind(wanted):
        return False
    return comparison in ("$gte", "$lte") if wanted is None else _ORDERS[comparison](found, wanted)


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    # In JSON, unlike in Python, true is not 1.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _kind(value: Any) -> type[Any]:
    return float if type(value) is int else type(value)
