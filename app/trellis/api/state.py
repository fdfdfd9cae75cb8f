"""Routes of a thread's state and history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, request

from trellis.api import body, supersteps, wire
from trellis.api.current import rt, tenant_id
from trellis.api.schemas import (
    CheckpointConfig,
    HistoryRequest,
    StateAtCheckpoint,
    StatePatch,
    StateUpdate,
    StateUpdates,
)
from trellis.errors import Invalid
from trellis.services import state, state_updates
from trellis.services.state_updates import Update
from trellis.stream import encoder

blueprint = Blueprint("state", __name__)


@blueprint.get("/threads/<thread_id>/state")
def get(thread_id: str) -> Response:
    """Get the latest state of a thread."""
    return _read(thread_id, {}, subgraphs=body.flag("subgraphs"), select=_select())


@blueprint.get("/threads/<thread_id>/state/<checkpoint_id>")
def get_at(thread_id: str, checkpoint_id: str) -> Response:
    """Get the state of a thread at a checkpoint."""
    where = {"checkpoint_id": checkpoint_id}
    return _read(thread_id, where, subgraphs=body.flag("subgraphs"), select=_select())


@blueprint.post("/threads/<thread_id>/state/checkpoint")
def find(thread_id: str) -> Response:
    """Get the state of a thread, or of a subgraph in it, at a checkpoint."""
    wanted = body.json_body(StateAtCheckpoint)
    return _read(
        thread_id,
        _where(wanted.checkpoint),
        subgraphs=bool(wanted.subgraphs),
        select=wanted.select,
    )


@blueprint.post("/threads/<thread_id>/state")
def update(thread_id: str) -> Response:
    """Change the state of a thread on which nothing runs, as if a node had said it; or copy a checkpoint."""
    wanted = body.json_body(StateUpdate)
    change = Update(values=wanted.values, as_node=wanted.as_node)
    where = _where(wanted.checkpoint, wanted.checkpoint_id)
    return _update(thread_id, [[change]], where)


@blueprint.patch("/threads/<thread_id>/state")
def patch(thread_id: str) -> Response:
    """Merge metadata into that of a thread's latest state, while nothing runs on it."""
    thread_id = body.identifier(thread_id, "thread")
    metadata = body.metadata(body.json_body(StatePatch).metadata)
    state_updates.patch_metadata(rt(), tenant_id(), thread_id, metadata)
    return wire.nothing()


@blueprint.post("/threads/<thread_id>/state/bulk")
def update_many(thread_id: str) -> Response:
    """Change the state of a thread on which nothing runs, superstep by superstep: all of it, or nothing."""
    wanted = body.json_body(StateUpdates)
    changes = supersteps.updates(wanted.supersteps)
    return _update(thread_id, changes, _where(wanted.checkpoint, wanted.checkpoint_id))


@blueprint.get("/threads/<thread_id>/history")
def list_history(thread_id: str) -> Response:
    """List past states of a thread, newest first."""
    return _history(
        thread_id,
        HistoryRequest(
            limit=body.number("limit", default=10, low=1, high=1000),
            before=request.args.get("before") or None,
            select=_select(),
        ),
    )


@blueprint.post("/threads/<thread_id>/history")
def search_history(thread_id: str) -> Response:
    """Search past states of a thread, newest first."""
    return _history(thread_id, body.json_body(HistoryRequest))


def _read(
    thread_id: str, where: Mapping[str, Any], *, subgraphs: bool, select: Sequence[str] | None
) -> Response:
    thread_id = body.identifier(thread_id, "thread")
    wire.check_selection(select)
    snapshot = state.read(rt(), tenant_id(), thread_id, where=where, subgraphs=subgraphs)
    shown = wire.empty_state() if snapshot is None else wire.state(snapshot)
    return wire.raw_answer(encoder.dumps(wire.selected_state(shown, select)))


def _history(thread_id: str, wanted: HistoryRequest) -> Response:
    thread_id = body.identifier(thread_id, "thread")
    wire.check_selection(wanted.select)
    snapshots = state.history(
        rt(),
        tenant_id(),
        thread_id,
        where=_where(wanted.checkpoint),
        before=_before(wanted.before),
        metadata=wanted.metadata or {},
        limit=wanted.limit,
    )
    shown = [wire.selected_state(wire.state(each), wanted.select) for each in snapshots]
    return wire.raw_answer(encoder.dumps(shown))


def _update(
    thread_id: str, changes: Sequence[Sequence[Update]], where: Mapping[str, Any]
) -> Response:
    thread_id = body.identifier(thread_id, "thread")
    made = state_updates.update_state(rt(), tenant_id(), thread_id, changes, where=where)
    return wire.answer(wire.updated_state(made))


def _where(checkpoint: CheckpointConfig | None, checkpoint_id: str | None = None) -> dict[str, Any]:
    """The checkpoint meant; the thread is always the one of the path."""
    checkpoint = checkpoint or CheckpointConfig()
    where = {
        "checkpoint_ns": checkpoint.checkpoint_ns,
        "checkpoint_id": checkpoint.checkpoint_id or checkpoint_id,
        "checkpoint_map": checkpoint.checkpoint_map,
    }
    return {key: value for key, value in where.items() if value is not None}


def _before(given: str | Mapping[str, Any] | None) -> str | None:
    """The id of a checkpoint: as such, in a checkpoint, or in a config."""
    if given is None or isinstance(given, str):
        return given
    checkpoint = given.get("configurable", given)
    found = checkpoint.get("checkpoint_id") if isinstance(checkpoint, Mapping) else None
    if not isinstance(found, str):
        raise Invalid("before must be a checkpoint id, or an object with a checkpoint_id")
    return found


def _select() -> list[str] | None:
    return body.names("select") or None
