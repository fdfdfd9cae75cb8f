"""Routes of runs, on a thread and stateless."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from flask import Blueprint, Response, request

from trellis.api import body, current, idempotency, new_run, streaming, wire
from trellis.api.current import request_id, rt, tenant_id
from trellis.api.schemas import RunBatch, RunCreate, RunsCancel, StatelessRunCreate
from trellis.domain.idempotency import Key
from trellis.domain.multitask import Action
from trellis.domain.new_run import NewRun
from trellis.domain.runs import ACTIVE
from trellis.errors import Invalid, NotFound
from trellis.services import cancel as cancelling
from trellis.services import runs, webhooks
from trellis.services.runs import RunRow

blueprint = Blueprint("runs", __name__)


# On a thread


@blueprint.post("/threads/<thread_id>/runs")
def create(thread_id: str) -> Response:
    """Create a run in the background."""
    run, _ = _create(thread_id, waits=False)
    return wire.answer(wire.run(run), headers={"Content-Location": _path(run)})


@blueprint.post("/threads/<thread_id>/runs/stream")
def create_and_stream(thread_id: str) -> Response:
    """Create a run and stream its events."""
    run, leave = _create(thread_id)
    headers = _headers(_path(run), "stream")
    return streaming.events(rt(), run, after="0", headers=headers, leave=leave)


@blueprint.post("/threads/<thread_id>/runs/wait")
def create_and_wait(thread_id: str) -> Response:
    """Create a run and wait for the thread's values at its end."""
    run, leave = _create(thread_id)
    return streaming.values(rt(), run, headers=_headers(_path(run), "join"), leave=leave)


@blueprint.get("/threads/<thread_id>/runs")
def list_(thread_id: str) -> Response:
    """List the runs of a thread, newest first."""
    thread_id = body.identifier(thread_id, "thread")
    select = _select()
    rows = runs.list_(
        rt(),
        tenant_id(),
        thread_id,
        limit=body.number("limit", default=10, low=1, high=1000),
        offset=body.number("offset", default=0, low=0, high=body.MAX_OFFSET),
        status=request.args.get("status") or None,
    )
    return wire.answer([wire.selected(wire.run(row), select) for row in rows])


@blueprint.get("/threads/<thread_id>/runs/<run_id>")
def get(thread_id: str, run_id: str) -> Response:
    """Get a run."""
    thread_id, run_id = body.identifier(thread_id, "thread"), body.identifier(run_id, "run")
    return wire.answer(wire.run(runs.get(rt(), tenant_id(), thread_id, run_id)))


@blueprint.get("/threads/<thread_id>/runs/<run_id>/join")
def join(thread_id: str, run_id: str) -> Response:
    """Wait for the end of a run, and get the thread's current values."""
    thread_id, run_id = body.identifier(thread_id, "thread"), body.identifier(run_id, "run")
    return _join(_find(run_id, thread_id), f"/threads/{thread_id}/runs/{run_id}")


@blueprint.get("/threads/<thread_id>/runs/<run_id>/stream")
def stream(thread_id: str, run_id: str) -> Response:
    """Follow the events of a run, from now on or after Last-Event-ID."""
    thread_id, run_id = body.identifier(thread_id, "thread"), body.identifier(run_id, "run")
    return _stream(_find(run_id, thread_id), f"/threads/{thread_id}/runs/{run_id}")


# Stateless


@blueprint.post("/runs")
def create_stateless() -> Response:
    """Create a run on a thread of its own, in the background."""
    run, _ = _create_stateless(waits=False)
    return wire.answer(wire.run(run), headers={"Content-Location": f"/runs/{run['run_id']}"})


@blueprint.post("/runs/stream")
def create_stateless_and_stream() -> Response:
    """Create a run on a thread of its own and stream its events."""
    run, leave = _create_stateless()
    headers = _headers(f"/runs/{run['run_id']}", "stream")
    return streaming.events(rt(), run, after="0", headers=headers, leave=leave)


@blueprint.post("/runs/wait")
def create_stateless_and_wait() -> Response:
    """Create a run on a thread of its own and wait for its values."""
    run, leave = _create_stateless()
    return streaming.values(rt(), run, headers=_headers(_path(run), "join"), leave=leave)


@blueprint.post("/runs/batch")
def create_batch() -> Response:
    """Create many runs, each on a thread of its own: all of them, or none."""
    wanted = body.json_body(RunBatch)
    news = [
        current.signed(new_run.stateless(each, request_id()), n) for n, each in enumerate(wanted)
    ]
    _check_background(news)
    key = idempotency.key()
    made = (
        runs.create_batch(rt(), tenant_id(), news) if key is None else _create_once(None, news, key)
    )
    return wire.answer([wire.run(run) for run in made])


@blueprint.get("/runs/<run_id>")
def get_stateless(run_id: str) -> Response:
    """Get a run by its id alone."""
    return wire.answer(wire.run(runs.find(rt(), tenant_id(), body.identifier(run_id, "run"))))


@blueprint.get("/runs/<run_id>/webhook")
def webhook(run_id: str) -> Response:
    """Tell how the delivery of a run's webhook goes."""
    run_id = body.identifier(run_id, "run")
    return wire.answer(wire.webhook(webhooks.report(rt(), tenant_id(), run_id)))


@blueprint.get("/runs/<run_id>/join")
def join_stateless(run_id: str) -> Response:
    """Wait for the end of a run known by its id alone."""
    run_id = body.identifier(run_id, "run")
    return _join(_find(run_id), f"/runs/{run_id}")


@blueprint.get("/runs/<run_id>/stream")
def stream_stateless(run_id: str) -> Response:
    """Follow the events of a run known by its id alone."""
    run_id = body.identifier(run_id, "run")
    return _stream(_find(run_id), f"/runs/{run_id}")


@blueprint.post("/threads/<thread_id>/runs/<run_id>/cancel")
def cancel(thread_id: str, run_id: str) -> Response:
    """Cancel a run: keep what it did, or undo it. With wait=true the answer comes when it is over."""
    thread_id, run_id = body.identifier(thread_id, "thread"), body.identifier(run_id, "run")
    action, waits = _action(), body.flag("wait")
    over = cancelling.one(
        rt(), tenant_id(), thread_id, run_id, action=action, is_taken=_is_taken(action)
    )
    if not waits:
        return wire.nothing(status=202)
    headers = _headers(f"/threads/{thread_id}/runs/{run_id}", "join")
    return streaming.nothing(rt(), None if over else run_id, headers=headers)


@blueprint.post("/runs/cancel")
def cancel_many() -> Response:
    """Cancel every run of a status, or runs of a thread."""
    wanted = body.json_body(RunsCancel)
    action = _action()
    named = wanted.thread_id is not None or wanted.run_ids is not None
    if named == (wanted.status is not None):
        raise Invalid("Give either status, or thread_id and run_ids")
    if wanted.status is not None:
        statuses = tuple(ACTIVE) if wanted.status == "all" else (wanted.status,)
        allowed = current.condition("threads")
        cancelling.many(rt(), tenant_id(), action=action, statuses=statuses, allowed=allowed)
        return wire.nothing()
    if wanted.thread_id is None or wanted.run_ids is None:
        raise Invalid("thread_id and run_ids belong together")
    cancelling.many(
        rt(),
        tenant_id(),
        action=action,
        thread_id=body.identifier(wanted.thread_id, "thread"),
        run_ids=[body.identifier(run_id, "run") for run_id in wanted.run_ids],
        allowed=current.condition("threads"),
    )
    return wire.nothing()


@blueprint.delete("/threads/<thread_id>/runs/<run_id>")
def delete(thread_id: str, run_id: str) -> Response:
    """Delete a run, whether it is over or not, with those of its checkpoints that no other run builds upon."""
    thread_id, run_id = body.identifier(thread_id, "thread"), body.identifier(run_id, "run")
    cancelling.delete_run(rt(), tenant_id(), thread_id, run_id)
    return wire.nothing()


def _action() -> Action:
    given = request.args.get("action") or Action.INTERRUPT
    if given not in (Action.INTERRUPT, Action.ROLLBACK):
        raise Invalid(f"action must be interrupt or rollback, not {given[:40]!r}")
    return Action(given)


def _is_taken(action: Action) -> bool:
    """Whether the client says that another run took over the input of this one."""
    reason = request.args.get("reason")
    if not reason:
        return False
    if reason != "taken" or action != Action.INTERRUPT:
        raise Invalid('reason may only be "taken", and only with action=interrupt')
    return True


#: What is called when the client hangs up; None: nothing happens to the run then.
Leave = Callable[[], None] | None


def _create(thread_id: str, *, waits: bool = True) -> tuple[RunRow, Leave]:
    thread_id = body.identifier(thread_id, "thread")
    new = current.signed(new_run.on_thread(body.json_body(RunCreate), request_id()))
    if not waits:
        _check_background([new])
    run = _accept(thread_id, new)
    return run, _leave(run, cancels=new.on_disconnect == "cancel")


def _create_stateless(*, waits: bool = True) -> tuple[RunRow, Leave]:
    new = current.signed(new_run.stateless(body.json_body(StatelessRunCreate), request_id()))
    if not waits:
        _check_background([new])
    run = _accept(None, new)
    return run, _leave(run, cancels=new.on_disconnect == "cancel")


def _check_background(news: Sequence[NewRun]) -> None:
    if any(new.on_disconnect == "cancel" for new in news):
        raise Invalid(
            "on_disconnect=cancel needs a client that stays: create the run with /stream or /wait"
        )


def _leave(run: RunRow | None, *, cancels: bool) -> Leave:
    if run is None or not cancels:
        return None
    ids = tenant_id(), run["thread_id"], run["run_id"]
    return partial(cancelling.disconnected, rt(), *ids)


def _leave_or_stay(run: RunRow | None) -> Leave:
    """For a client that joins: it decides anew whether its leaving cancels the run."""
    cancels = body.flag("cancel_on_disconnect")
    if run is not None and not cancels and run["status"] in ACTIVE:
        rt().presence.forgive(run["run_id"])
    return _leave(run, cancels=cancels)


def _accept(thread_id: str | None, new: NewRun) -> RunRow:
    key = idempotency.key()
    if key is None:
        return runs.create(rt(), tenant_id(), thread_id, new)
    [run] = _create_once(thread_id, [new], key)
    return run


def _create_once(thread_id: str | None, news: Sequence[NewRun], key: Key) -> Sequence[RunRow]:
    made, is_replay = runs.create_once(rt(), tenant_id(), thread_id, news, key=key)
    if is_replay:
        idempotency.replayed()
    return made


def _find(run_id: str, thread_id: str | None = None) -> RunRow | None:
    """A run that may be followed, temporary threads included: a client that lost its connection comes back here."""
    try:
        run = runs.find(rt(), tenant_id(), run_id)
    except NotFound:
        return None
    return run if thread_id in (None, run["thread_id"]) else None


def _join(run: RunRow | None, path: str) -> Response:
    leave = _leave_or_stay(run)
    return streaming.values(rt(), run, headers=_headers(path, "join"), leave=leave)


def _stream(run: RunRow | None, path: str) -> Response:
    leave = _leave_or_stay(run)
    return streaming.events(
        rt(),
        run,
        after=streaming.cursor(run, request.headers.get("Last-Event-ID")),
        modes=streaming.wanted_modes(request.args.getlist("stream_mode")),
        headers=_headers(path, "stream"),
        leave=leave,
    )


def _select() -> list[str] | None:
    select = body.names("select")
    if unknown := [name for name in select if name not in wire.RUN_FIELDS]:
        raise Invalid(f"Invalid select columns: {unknown}. Expected: {list(wire.RUN_FIELDS)}")
    return select or None


def _path(run: RunRow) -> str:
    return f"/threads/{run['thread_id']}/runs/{run['run_id']}"


def _headers(path: str, resume: str) -> Mapping[str, str]:
    """Where the run is, and where a client that loses the connection goes on."""
    return {"Location": f"{path}/{resume}", "Content-Location": path}
