"""Who asks, for whose data, and which of a tenant's things are theirs: the rules of access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

from trellis.domain.storable import is_storable
from trellis.domain.users import User

DEFAULT_TENANT = "default"
#: A tenant that no credentials can name: to whoever belongs to it, nothing exists.
NOBODY = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who a request is from. Without `user` nobody was asked to identify themselves."""

    tenant_id: str = DEFAULT_TENANT
    user: User | None = None
    is_internal: bool = False  #: our own process asks: no handler has a say

    @property
    def identity(self) -> str:
        return self.user.identity if self.user else ""


#: For whom the code at hand runs: a view, a route of the operator's, a node.
caller: ContextVar[Principal] = ContextVar("caller", default=Principal())  # noqa: B039  # it is frozen


@dataclass(frozen=True, slots=True)
class Equals:
    """A key of the metadata has exactly this value."""

    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Contains:
    """A key of the metadata is a list in which all of these occur."""

    key: str
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: Sequence[Condition]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: Sequence[Condition]


#: What the metadata of a thing must meet so that somebody may touch it.
Condition: TypeAlias = Equals | Contains | AllOf | AnyOf


def keys_of(condition: Condition | None) -> set[str]:
    """The keys of the metadata that a condition looks at."""
    match condition:
        case AllOf(parts) | AnyOf(parts):
            return set().union(*(keys_of(part) for part in parts))
        case Equals(key) | Contains(key):
            return {key}
    return set()


def condition_of(raw: Mapping[str, Any]) -> Condition:
    """
    Read the filter that an authorization handler returned: its keys are joined by AND.

    :raises ValueError: it is no filter, or looks for what cannot be stored.
    """
    return AllOf([part for key, wanted in raw.items() for part in _parts(key, wanted)])


def _parts(key: Any, wanted: Any) -> list[Condition]:
    if key in ("$and", "$or"):
        if not isinstance(wanted, Sequence) or not all(isinstance(w, Mapping) for w in wanted):
            raise ValueError(f"{key} takes a list of filters")
        parts = [condition_of(each) for each in wanted]
        return [AllOf(parts) if key == "$and" else AnyOf(parts)]
    if not isinstance(key, str) or key.startswith("$"):
        raise ValueError(f"a filter knows $and and $or, not {key!r}")
    if not isinstance(wanted, Mapping):
        return [_comparison(key, "$eq", wanted)]
    if not wanted:
        raise ValueError(f"the filter on {key!r} is empty")
    return [_comparison(key, operator, operand) for operator, operand in wanted.items()]


def _comparison(key: str, operator: Any, operand: Any) -> Condition:
    if isinstance(operand, set | frozenset):
        operand = list(operand)
    if not is_storable({key: operand}):
        raise ValueError(f"no metadata can be what the filter on {key!r} looks for")
    match operator:
        case "$eq":
            return Equals(key, operand)
        case "$contains":
            many = isinstance(operand, list | tuple)
            return Contains(key, list(operand) if many else [operand])
    raise ValueError(f"a filter on {key!r} knows $eq and $contains, not {operator!r}")
