"""Routes of crons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, request

from trellis.api import body, current, idempotency, new_cron, wire
from trellis.api.cron_schemas import CronCount, CronSearch
from trellis.api.current import rt, tenant_id
from trellis.db.crons import Query
from trellis.domain.pages import Page
from trellis.services import crons

blueprint = Blueprint("crons", __name__)


@blueprint.post("/runs/crons")
def create() -> Response:
    """Create a cron whose runs have threads of their own."""
    return _create(None)


@blueprint.post("/threads/<thread_id>/runs/crons")
def create_on_thread(thread_id: str) -> Response:
    """Create a cron that runs on a thread."""
    return _create(body.identifier(thread_id, "thread"))


@blueprint.get("/runs/crons/<cron_id>")
def get(cron_id: str) -> Response:
    """Get a cron."""
    row = crons.get(rt(), tenant_id(), body.identifier(cron_id, "cron"))
    return wire.answer(wire.cron(row))


@blueprint.patch("/runs/crons/<cron_id>")
def patch(cron_id: str) -> Response:
    """Change a cron: what is sent replaces what was, metadata is merged."""
    cron_id = body.identifier(cron_id, "cron")
    changes = new_cron.sent(body.json_body(dict[str, Any]))
    row = crons.patch(
        rt(),
        tenant_id(),
        cron_id,
        lambda before: new_cron.changed(before, changes),
        webhook=changes.get("webhook"),
    )
    return wire.answer(wire.cron(row))


@blueprint.delete("/runs/crons/<cron_id>")
def delete(cron_id: str) -> Response:
    """Delete a cron; what it ran stays."""
    crons.delete(rt(), tenant_id(), body.identifier(cron_id, "cron"))
    return wire.nothing()


@blueprint.post("/runs/crons/<cron_id>/run")
def run(cron_id: str) -> Response:
    """Run a cron now, enabled or not; its next date stays as it is."""
    cron_id = body.identifier(cron_id, "cron")
    if request.get_data():
        body.json_body(dict[str, Any])
    made, is_replay = crons.run_now(rt(), tenant_id(), cron_id, key=idempotency.key())
    if is_replay:
        idempotency.replayed()
    location = f"/threads/{made['thread_id']}/runs/{made['run_id']}"
    return wire.answer(wire.run(made), headers={"Content-Location": location})


@blueprint.post("/runs/crons/search")
def search() -> Response:
    """Search crons, newest first."""
    wanted = body.json_body(CronSearch)
    by = wanted.sort_by or "created_at"
    page = Page(
        limit=wanted.limit + 1,
        offset=wanted.offset,
        sort_by="next_run_at" if by == "next_run_date" else by,
        sort_order=wanted.sort_order or "desc",
    )
    found = crons.search(rt(), tenant_id(), query=_query(wanted), page=page)
    rows, headers = wire.page(found, limit=wanted.limit, offset=wanted.offset)
    shown = [wire.selected(wire.cron(row), wanted.select) for row in rows]
    return wire.answer(shown, headers=headers)


@blueprint.post("/runs/crons/count")
def count() -> Response:
    """Count crons."""
    wanted = body.json_body(CronCount)
    return wire.answer(crons.count(rt(), tenant_id(), query=_query(wanted)))


def _create(thread_id: str | None) -> Response:
    new = new_cron.created(body.json_body(dict[str, Any]), thread_id)
    # Whoever makes the cron is who its runs are for. What they may touch is asked for now, not then.
    new = replace(new, run=replace(current.signed(new.run), allowed=None, stamp={}))
    row, is_replay = crons.create(rt(), tenant_id(), new, key=idempotency.key())
    if is_replay:
        idempotency.replayed()
    return wire.answer(wire.cron(row))


def _query(wanted: CronCount) -> Query:
    return Query(
        assistant_id=body.identifier_or_none(wanted.assistant_id, "assistant"),
        thread_id=body.identifier_or_none(wanted.thread_id, "thread"),
        enabled=wanted.enabled,
        metadata=wanted.metadata or {},
        allowed=current.condition("crons"),
    )
