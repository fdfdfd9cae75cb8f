"""Routes of the store."""

from __future__ import annotations

from typing import Any, Literal

from flask import Blueprint, Response, request
from msgspec import UNSET

from trellis.api import body, current, wire
from trellis.api.current import rt, tenant_id
from trellis.api.schemas import StoreDelete, StoreNamespaces, StorePut, StoreSearch
from trellis.errors import BadRequest, Invalid
from trellis.services import store
from trellis.services.store import Listing, Put, Search
from trellis.stream import encoder

blueprint = Blueprint("store", __name__)


@blueprint.put("/store/items")
def put() -> Response:
    """Store an item, or replace it."""
    wanted = body.json_body(StorePut)
    store.put(
        rt(),
        tenant_id(),
        Put(
            namespace=current.namespace(tuple(wanted.namespace)),
            key=wanted.key,
            value=wanted.value,
            index=_index(wanted.index),
            ttl_minutes=None if wanted.ttl is UNSET else wanted.ttl,
            is_ttl_given=wanted.ttl is not UNSET,
        ),
    )
    return wire.nothing()


@blueprint.get("/store/items")
def get() -> Response:
    """Get an item; null if there is none."""
    key = request.args.get("key")
    if key is None:
        raise BadRequest("Key is required")
    # A label has no period, so that one text can hold them all; a list of labels means the same.
    namespace = current.namespace(tuple(".".join(request.args.getlist("namespace")).split(".")))
    found = store.get(
        rt(), tenant_id(), namespace, key, refresh_ttl=body.flag_or_none("refresh_ttl")
    )
    return _answer(found and wire.item(found))


@blueprint.delete("/store/items")
def delete() -> Response:
    """Delete an item if there is one."""
    wanted = body.json_body(StoreDelete)
    namespace = current.namespace(tuple(wanted.namespace or ()))
    store.delete(rt(), tenant_id(), namespace, wanted.key)
    return wire.nothing()


@blueprint.post("/store/items/search")
def search() -> Response:
    """Search items below a namespace prefix: by meaning if a query is given, else last changed first."""
    wanted = body.json_body(StoreSearch)
    found = store.search(
        rt(),
        tenant_id(),
        Search(
            prefix=current.namespace(tuple(wanted.namespace_prefix or ())),
            filter=wanted.filter or {},
            limit=wanted.limit,
            offset=wanted.offset,
            query=wanted.query,
            refresh_ttl=wanted.refresh_ttl,
        ),
    )
    return _answer({"items": [{**wire.item(each), "score": each.score} for each in found]})


@blueprint.post("/store/namespaces")
def namespaces() -> Response:
    """List namespaces that hold items."""
    wanted = body.json_body(StoreNamespaces)
    found = store.namespaces(
        rt(),
        tenant_id(),
        Listing(
            prefix=current.namespace(tuple(wanted.prefix or ())),
            suffix=tuple(wanted.suffix or ()),
            max_depth=wanted.max_depth,
            limit=wanted.limit,
            offset=wanted.offset,
        ),
    )
    return wire.answer({"namespaces": found})


def _answer(data: Any) -> Response:
    """Items of an operator's own store may hold what JSON cannot say."""
    return wire.raw_answer(encoder.dumps(data))


def _index(given: bool | list[str] | None) -> Literal[False] | list[str] | None:
    if given is True:
        raise Invalid("index must be false, a list of paths, or null, not true")
    return given
