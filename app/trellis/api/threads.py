"""Routes of threads."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from trellis.api import body, idempotency, wire
from trellis.api.current import condition, rt, tenant_id
from trellis.api.schemas import ThreadCount, ThreadCreate, ThreadPatch, ThreadSearch, TtlConfig
from trellis.db.threads import Query, Ttl
from trellis.domain.ids import new_id
from trellis.domain.pages import Page
from trellis.errors import NotSupported
from trellis.services import cancel, threads
from trellis.services.threads import New
from trellis.stream import encoder

blueprint = Blueprint("threads", __name__)


@blueprint.post("/threads")
def create() -> Response:
    """Create a thread."""
    wanted = body.json_body(ThreadCreate)
    if wanted.supersteps:
        raise NotSupported("supersteps are not supported yet by this version. Leave them out.")
    row = _create(
        New(
            thread_id=_thread_id(wanted.thread_id),
            metadata=body.metadata(wanted.metadata),
            ttl=_ttl(wanted.ttl),
            keep_existing=wanted.if_exists == "do_nothing",
            allowed=condition("threads"),
        )
    )
    is_new = row["created_at"] == row["updated_at"]
    return wire.raw_answer(encoder.dumps(wire.thread(row, None if is_new else _values(row))))


@blueprint.get("/threads/<thread_id>")
def get(thread_id: str) -> Response:
    """Get a thread with its current values."""
    thread_id = body.identifier(thread_id, "thread")
    row = threads.get(rt(), tenant_id(), thread_id)
    with_ttl = "ttl" in request.args.get("include", "").split(",")
    return wire.raw_answer(encoder.dumps(wire.thread(row, _values(row), with_ttl=with_ttl)))


@blueprint.patch("/threads/<thread_id>")
def patch(thread_id: str) -> Response:
    """Merge metadata into a thread, or restart its time to live."""
    thread_id = body.identifier(thread_id, "thread")
    wanted = body.json_body(ThreadPatch)
    metadata = body.metadata(wanted.metadata)
    row = threads.patch(rt(), tenant_id(), thread_id, metadata=metadata, ttl=_ttl(wanted.ttl))
    if request.headers.get("Prefer") == "return=minimal":
        return Response(status=204)
    return wire.raw_answer(encoder.dumps(wire.thread(row, _values(row))))


@blueprint.delete("/threads/<thread_id>")
def delete(thread_id: str) -> Response:
    """Delete a thread with its runs and its state, whatever runs on it."""
    cancel.delete_thread(rt(), tenant_id(), body.identifier(thread_id, "thread"))
    return Response(status=204)


@blueprint.post("/threads/search")
def search() -> Response:
    """Search threads, last changed first."""
    wanted = body.json_body(ThreadSearch)
    if wanted.extract:
        raise NotSupported("extract is not supported yet by this version. Leave it out.")
    page = Page(
        limit=wanted.limit + 1,
        offset=wanted.offset,
        sort_by=wanted.sort_by or "updated_at",
        sort_order=wanted.sort_order or "desc",
    )
    found = threads.search(rt(), tenant_id(), query=_query(wanted), page=page)
    rows, headers = wire.page(found, limit=wanted.limit, offset=wanted.offset)
    needs_values = wanted.select is None or "values" in wanted.select
    values = threads.values(rt(), [row["thread_id"] for row in rows] if needs_values else [])
    shown = [
        wire.selected(wire.thread(row, values.get(row["thread_id"])), wanted.select) for row in rows
    ]
    return wire.raw_answer(encoder.dumps(shown), headers=headers)


@blueprint.post("/threads/count")
def count() -> Response:
    """Count threads."""
    wanted = body.json_body(ThreadCount)
    return wire.answer(threads.count(rt(), tenant_id(), query=_query(wanted)))


def _thread_id(given: str | None) -> str:
    return body.identifier(given, "thread") if given else new_id()


def _create(new: New) -> wire.Row:
    key = idempotency.key()
    if key is None:
        return threads.create(rt(), tenant_id(), new)
    row, is_replay = threads.create_once(rt(), tenant_id(), new, key=key)
    if is_replay:
        idempotency.replayed()
    return row


def _values(row: wire.Row) -> Any:
    return threads.values(rt(), [row["thread_id"]]).get(row["thread_id"])


def _query(wanted: ThreadCount) -> Query:
    if wanted.values:
        raise NotSupported("searching by values is not supported yet by this version")
    ids = wanted.ids
    return Query(
        ids=None if ids is None else [body.identifier(text, "thread") for text in ids],
        metadata=wanted.metadata or {},
        status=wanted.status,
        allowed=condition("threads"),
    )


def _ttl(given: TtlConfig | None) -> Ttl | None:
    return Ttl(minutes=given.ttl, strategy=given.strategy) if given else None
