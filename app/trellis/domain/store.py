"""Rules of the store: what an item may be called, and what langgraph.json says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trellis.domain.access import DEFAULT_TENANT
from trellis.errors import BadRequest, Invalid, NotSupported

Namespace = tuple[str, ...]

#: Longest that an item may ask to live. Ten years: more is a mistake, and far more does not fit a timestamp.
MAX_TTL_MINUTES = 5_256_000

#: Bytes of a namespace and a key: an entry of Postgres's index holds 2 704, the tenant and headers included.
_MAX_PLACE_BYTES = 2000
#: What an index entry spends on each label beside its bytes.
_LABEL_BYTES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreTtl:
    """How long items live that say nothing of it, and when the dead are removed."""

    default_minutes: float | None = None
    refresh_on_read: bool = True
    sweep_minutes: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreIndex:
    """What makes vectors of items, and of which parts of them."""

    embed: str  #: "provider:model", "path/to/file.py:variable" or "module.name:variable"
    dims: int
    fields: tuple[str, ...] = ("$",)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSettings:
    """`store` of langgraph.json."""

    ttl: StoreTtl = field(default_factory=StoreTtl)
    index: StoreIndex | None = None
    path: str | None = (
        None  #: of a store of the operator's own, which has life times and an index of its own
    )


def check_tenant(tenant_id: str) -> None:
    """
    Refuse a store of the operator's own, which knows no tenants, to all tenants but the only one that most servers have.

    :raises NotSupported: what to do.
    """
    if tenant_id != DEFAULT_TENANT:
        raise NotSupported(
            'The store of this server is its operator\'s own ("store.path"), and knows no tenants.'
        )


def check_labels(namespace: Sequence[str]) -> None:
    """
    Refuse labels that no item can have.

    :raises Invalid: names the label.
    """
    for label in namespace:
        if not label or "." in label:
            raise Invalid(f"Namespace label {label!r} must be a non-empty string without periods")


def check_place(namespace: Namespace, key: str) -> None:
    """
    Refuse places where nothing can be put.

    :raises BadRequest: the namespace is empty, or LangGraph's own.
    :raises Invalid: a label is none, or the place does not fit an index.
    """
    if not namespace:
        raise BadRequest("Namespace cannot be empty.")
    check_labels(namespace)
    if namespace[0] == "langgraph":
        raise BadRequest(f'Root label for namespace cannot be "langgraph". Got: {namespace}')
    size = sum(_bytes(label) + _LABEL_BYTES for label in namespace) + _bytes(key)
    if size > _MAX_PLACE_BYTES:
        raise Invalid(
            f"Namespace and key take {size} bytes ({_LABEL_BYTES} for each label beside its own); "
            f"the store holds {_MAX_PLACE_BYTES}. Shorten them."
        )


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
