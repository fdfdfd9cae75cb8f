"""The store's items: put, get, delete and search them, list their namespaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trellis.domain.store import Namespace, check_labels, check_place, check_tenant
from trellis.errors import NotSupported
from trellis.runtime import Runtime

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore, Item, SearchItem


@dataclass(frozen=True, kw_only=True, slots=True)
class Put:
    """An item that a client wants stored."""

    namespace: Namespace
    key: str
    value: Mapping[str, Any]
    index: Literal[False] | list[str] | None = None  #: what is embedded; None: what the store says
    ttl_minutes: float | None = None  #: None: for ever
    is_ttl_given: bool = False  #: else it lives as long as the store says


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """Which items a client wants."""

    prefix: Namespace
    filter: Mapping[str, Any]
    limit: int
    offset: int
    query: str | None = None
    refresh_ttl: bool | None = None  #: None: as the store says


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Which namespaces a client wants; `*` in prefix and suffix stands for any one label."""

    prefix: Namespace
    suffix: Namespace
    max_depth: int | None
    limit: int
    offset: int


def put(rt: Runtime, tenant_id: str, wanted: Put) -> None:
    """
    Store an item, in the place of the one that is there.

    :raises BadRequest: no item may be there.
    :raises Invalid: a label, the key, the value or a path to embed means nothing.
    """
    check_place(wanted.namespace, wanted.key)
    ttl: dict[str, Any] = {"ttl": wanted.ttl_minutes} if wanted.is_ttl_given else {}
    store = _store(rt, tenant_id)
    if wanted.ttl_minutes is not None and not store.supports_ttl:
        raise NotSupported("ttl: the store of this server does not let items expire.")
    store.put(wanted.namespace, wanted.key, dict(wanted.value), index=wanted.index, **ttl)


def get(
    rt: Runtime, tenant_id: str, namespace: Namespace, key: str, *, refresh_ttl: bool | None
) -> Item | None:
    """
    An item, or None.

    :raises Invalid: no item can be there.
    """
    check_labels(namespace)
    return _store(rt, tenant_id).get(namespace, key, refresh_ttl=refresh_ttl)


def delete(rt: Runtime, tenant_id: str, namespace: Namespace, key: str) -> None:
    """
    Delete an item if there is one.

    :raises Invalid: no item can be there.
    """
    check_labels(namespace)
    _store(rt, tenant_id).delete(namespace, key)


def search(rt: Runtime, tenant_id: str, wanted: Search) -> Sequence[SearchItem]:
    """
    A page of the items that match: by meaning if a query is given and the store has an index, else newest first.

    :raises Invalid: a label, an operator or a value means nothing, or there is too much to look at.
    """
    check_labels(wanted.prefix)
    return _store(rt, tenant_id).search(
        wanted.prefix,
        query=wanted.query,
        filter=dict(wanted.filter),
        limit=wanted.limit,
        offset=wanted.offset,
        refresh_ttl=wanted.refresh_ttl,
    )


def namespaces(rt: Runtime, tenant_id: str, wanted: Listing) -> Sequence[Namespace]:
    """
    A page of the namespaces that match, in order.

    :raises Invalid: a label means nothing, or there is too much to look at.
    """
    check_labels([*wanted.prefix, *wanted.suffix])
    return _store(rt, tenant_id).list_namespaces(
        prefix=wanted.prefix or None,
        suffix=wanted.suffix or None,
        max_depth=wanted.max_depth,
        limit=wanted.limit,
        offset=wanted.offset,
    )


def _store(rt: Runtime, tenant_id: str) -> BaseStore:
    if rt.own_store is not None:
        from trellis.services.own_store import OwnStore

        check_tenant(tenant_id)
        return OwnStore(rt, rt.own_store)
    # langgraph is imported by the first request that needs the store, not by the start of the process.
    from trellis.db.store import PostgresStore, ttl_config

    ttl = ttl_config(rt.manifest.store.ttl)
    return PostgresStore(rt.engine, tenant_id, ttl=ttl, index=rt.index)
