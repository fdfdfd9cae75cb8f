"""Routes of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, request

from trellis.api import body, current, idempotency, supersteps, wire
from trellis.api.current import condition, rt, tenant_id
from trellis.api.schemas import (
    ThreadCount,
    ThreadCreate,
    ThreadPatch,
    ThreadPrune,
    ThreadSearch,
    TtlConfig,
)
from trellis.db.threads import Query
from trellis.domain import extract
from trellis.domain.extract import Path
from trellis.domain.ids import new_id
from trellis.domain.pages import Page
from trellis.domain.ttl import Ttl
from trellis.errors import Invalid
from trellis.services import cancel, copies, seeds, threads
from trellis.services.state_updates import Update
from trellis.services.threads import New
from trellis.stream import encoder

blueprint = Blueprint("threads", __name__)


@blueprint.post("/threads")
def create() -> Response:
    """Create a thread."""
    wanted = body.json_body(ThreadCreate)
    new = New(
        thread_id=_thread_id(wanted.thread_id),
        metadata=body.metadata(wanted.metadata),
        ttl=_ttl(wanted.ttl),
        keep_existing=wanted.if_exists == "do_nothing",
        allowed=condition("threads"),
    )
    if wanted.supersteps:
        return _create_seeded(new, supersteps.updates(wanted.supersteps))
    row = _create(new)
    values = _values(row) if new.keep_existing else None
    return wire.raw_answer(encoder.dumps(wire.thread(row, values)))


@blueprint.get("/threads/<thread_id>")
def get(thread_id: str) -> Response:
    """Get a thread with its current values."""
    thread_id = body.identifier(thread_id, "thread")
    row = threads.get(rt(), tenant_id(), thread_id)
    # One client sends a list with commas, the other repeats the key.
    with_ttl = "ttl" in ",".join(request.args.getlist("include")).split(",")
    return wire.raw_answer(encoder.dumps(wire.thread(row, _values(row), with_ttl=with_ttl)))


@blueprint.patch("/threads/<thread_id>")
def patch(thread_id: str) -> Response:
    """Merge metadata into a thread, or restart its time to live."""
    thread_id = body.identifier(thread_id, "thread")
    wanted = body.json_body(ThreadPatch)
    metadata = body.metadata(wanted.metadata)
    row = threads.patch(rt(), tenant_id(), thread_id, metadata=metadata, ttl=_ttl(wanted.ttl))
    if request.headers.get("Prefer") == "return=minimal":
        return wire.nothing()
    return wire.raw_answer(encoder.dumps(wire.thread(row, _values(row))))


@blueprint.delete("/threads/<thread_id>")
def delete(thread_id: str) -> Response:
    """Delete a thread with its runs and its state, whatever runs on it."""
    cancel.delete_thread(rt(), tenant_id(), body.identifier(thread_id, "thread"))
    return wire.nothing()


@blueprint.post("/threads/search")
def search() -> Response:
    """Search threads, last changed first."""
    wanted = body.json_body(ThreadSearch)
    paths = {alias: extract.parse(text) for alias, text in (wanted.extract or {}).items()}
    page = Page(
        limit=wanted.limit + 1,
        offset=wanted.offset,
        sort_by=wanted.sort_by or "updated_at",
        sort_order=wanted.sort_order or "desc",
    )
    found = threads.search(rt(), tenant_id(), query=_query(wanted), page=page)
    rows, headers = wire.page(found, limit=wanted.limit, offset=wanted.offset)
    shown = _shown(rows, wanted.select, paths)
    return wire.raw_answer(encoder.dumps(shown), headers=headers)


@blueprint.post("/threads/count")
def count() -> Response:
    """Count threads."""
    wanted = body.json_body(ThreadCount)
    return wire.answer(threads.count(rt(), tenant_id(), query=_query(wanted)))


@blueprint.post("/threads/<thread_id>/copy")
def copy(thread_id: str) -> Response:
    """Make a thread with the state and the history of another, without its runs."""
    thread_id = body.identifier(thread_id, "thread")
    row = copies.copy(rt(), tenant_id(), thread_id, metadata=current.stamp())
    return wire.raw_answer(encoder.dumps(wire.thread(row, _values(row))))


@blueprint.post("/threads/prune")
def prune() -> Response:
    """Delete threads, or with keep_latest the history of those on which nothing runs."""
    wanted = body.json_body(ThreadPrune)
    ids = [body.identifier(text, "thread") for text in wanted.thread_ids]
    allowed = condition("threads")
    pruned = threads.prune(rt(), tenant_id(), ids, strategy=wanted.strategy, allowed=allowed)
    return wire.answer({"pruned_count": pruned})


@blueprint.get("/threads/<thread_id>/storage")
def storage(thread_id: str) -> Response:
    """Tell what a thread's state and history take in the database."""
    thread_id = body.identifier(thread_id, "thread")
    return wire.answer(wire.storage(thread_id, threads.storage(rt(), tenant_id(), thread_id)))


def _shown(
    rows: Sequence[wire.Row], select: Sequence[str] | None, paths: Mapping[str, Path]
) -> list[Mapping[str, Any]]:
    """Threads as they are listed: the fields asked for, and what is at the paths. Values are read only if needed."""
    values: Mapping[str, Any] = {}
    if select is None or "values" in select:
        values = threads.values(rt(), [row["thread_id"] for row in rows])
    elif heads := [path.steps[:1] for path in paths.values() if path.root == "values"]:
        only = None if [] in heads else [key for [key] in heads if isinstance(key, str)]
        values = threads.values(rt(), [row["thread_id"] for row in rows], only=only)
    return [_listed(wire.thread(row, values.get(row["thread_id"])), select, paths) for row in rows]


def _listed(
    thread: Mapping[str, Any], select: Sequence[str] | None, paths: Mapping[str, Path]
) -> Mapping[str, Any]:
    shown = wire.selected(thread, select)
    if not paths:
        return shown
    found = {alias: extract.follow(path, thread) for alias, path in paths.items()}
    return {**shown, "extracted": found}


def _thread_id(given: str | None) -> str:
    return body.identifier_or_none(given, "thread") or new_id()


def _create(new: New) -> wire.Row:
    key = idempotency.key()
    if key is None:
        return threads.create(rt(), tenant_id(), new)
    row, is_replay = threads.create_once(rt(), tenant_id(), new, key=key)
    if is_replay:
        idempotency.replayed()
    return row


def _create_seeded(new: New, changes: Sequence[Sequence[Update]]) -> Response:
    if idempotency.key() is not None:
        raise Invalid(
            f"A thread with supersteps cannot be created with {idempotency.HEADER}. Give it a "
            "thread_id instead: a second attempt is refused with 409."
        )
    row, problem = seeds.create(rt(), tenant_id(), new, changes)
    if problem is None:
        return wire.raw_answer(encoder.dumps(wire.thread(row, _values(row))))
    told = f"Thread {new.thread_id} was created, but there were problems updating the state: "
    return wire.answer({"detail": told + problem}, status=201)


def _values(row: wire.Row) -> Any:
    return threads.values(rt(), [row["thread_id"]]).get(row["thread_id"])


def _query(wanted: ThreadCount) -> Query:
    ids = wanted.ids
    return Query(
        ids=None if ids is None else [body.identifier(text, "thread") for text in ids],
        metadata=wanted.metadata or {},
        status=wanted.status,
        allowed=condition("threads"),
        values=wanted.values or {},
    )


def _ttl(given: TtlConfig | None) -> Ttl | None:
    return Ttl(minutes=given.ttl, strategy=given.strategy) if given else None
