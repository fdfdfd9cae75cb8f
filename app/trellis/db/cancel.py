"""Ends that somebody asked for: of pending runs at once, of running ones by their worker, of lost ones by the sweep.

Lock order as everywhere: thread, then run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from trellis.db import checkpoints, dead_letters, queries, runs
from trellis.db.engine import Tx
from trellis.db.queries import Row
from trellis.db.runs import Pending
from trellis.domain.multitask import Action, ended_by
from trellis.domain.runs import ACTIVE, Claim, Ended, Outcome, RunStatus

_rows = partial(queries.rows, "cancel")
_row = partial(queries.row, "cancel")
_run = partial(queries.change, "cancel")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """What `stop` did."""

    ended: list[Ended] = field(default_factory=list)  #: are over now: tell who follows them
    asked: list[str] = field(
        default_factory=list
    )  #: are running: tell their workers after the commit
    following: Pending | None = None  #: what the thread may start next


def lock_thread(tx: Tx, tenant_id: str, thread_id: str) -> bool:
    """Lock a thread until the commit. False means that the tenant has none with this id."""
    return bool(_row(tx, "lock_thread", tenant_id=tenant_id, thread_id=thread_id))


def lock_threads(tx: Tx, tenant_id: str, thread_ids: Sequence[str]) -> list[str]:
    """Lock those of the threads that the tenant's clients have, until the commit. Returns their ids."""
    rows = _rows(tx, "lock_threads", tenant_id=tenant_id, thread_ids=list(thread_ids))
    return [row["thread_id"] for row in rows]


def active(tx: Tx, thread_id: str) -> Sequence[Row]:
    """The runs of a locked thread that are not over, oldest first."""
    return _rows(tx, "active", thread_id=thread_id)


def find(tx: Tx, tenant_id: str, run_id: str) -> Row | None:
    """Thread and status of a run."""
    return _row(tx, "find", tenant_id=tenant_id, run_id=run_id)


def find_active(
    tx: Tx,
    tenant_id: str,
    *,
    statuses: Sequence[str],
    thread_id: str | None = None,
    run_ids: Sequence[str] | None = None,
    assistant_id: str | None = None,
    after: Row | None = None,
    limit: int,
) -> Sequence[Row]:
    """
    Run and thread of a page of the runs that are meant; None means all. By thread, so that each is locked once.

    `after` is the last row of the page before: runs that were made since the first page are left out.
    """
    last = after or {"at": None, "thread_id": None, "seq": None}
    return _rows(
        tx,
        "find_active",
        tenant_id=tenant_id,
        statuses=list(statuses),
        thread_id=thread_id,
        run_ids=None if run_ids is None else list(run_ids),
        assistant_id=assistant_id,
        at=last["at"],
        last_thread=last["thread_id"],
        last_seq=last["seq"],
        limit=limit,
    )


def stop(tx: Tx, thread_id: str, *, among: Sequence[Row], action: Action, reason: str) -> Stopped:
    """
    End runs of a locked thread, given as `active` returns them: those that are pending now, the others soon.

    A pending run that is rolled back is deleted.
    """
    pending = [row for row in among if row["status"] == RunStatus.PENDING]
    running = [row["run_id"] for row in among if row["status"] == RunStatus.RUNNING]
    if running:
        _run(tx, "ask", run_ids=running, action=str(action), reason=reason)
    if not pending:
        return Stopped(asked=running)
    ended = _counted(tx, thread_id, pending)
    if action == Action.ROLLBACK:
        for each in ended:
            runs.roll_back(tx, each.run_id, thread_id)
    else:
        _run(
            tx,
            "end_pending",
            run_ids=[each.run_id for each in ended],
            fences=[each.fence for each in ended],
            action=str(action),
            reason=reason,
        )
    begun = any(row["has_progress"] for row in pending)
    following = _rest(tx, thread_id, ended_by(action, reason) if begun else None)
    return Stopped(ended=ended, asked=running, following=following)


def _counted(
    tx: Tx,
    thread_id: str,
    ended: Sequence[Row],
    *,
    status: RunStatus | None = RunStatus.INTERRUPTED,
) -> list[Ended]:
    """The ends of runs of a locked thread, each with its place among the thread's claims."""
    thread = _row(tx, "count", thread_id=thread_id, count=len(ended))
    assert thread is not None
    return [
        Ended(thread["tenant_id"], thread_id, row["run_id"], row["graph_id"], fence, status)
        for fence, row in enumerate(ended, thread["fence"] - len(ended) + 1)
    ]


def _rest(tx: Tx, thread_id: str, outcome: Outcome | None) -> Pending | None:
    """What the thread is now; an outcome if one of the runs had begun before it was pending again."""
    if outcome is not None:
        return _settle(tx, "", thread_id, outcome)
    row = _row(tx, "rest", thread_id=thread_id)
    if row is None or not row["due"]:
        return None
    return Pending(run_id=row["run_id"], graph_id=row["graph_id"])


def _settle(tx: Tx, run_id: str, thread_id: str, outcome: Outcome) -> Pending | None:
    claim = Claim(run_id=run_id, thread_id=thread_id, fence=0, attempt=0)
    return runs.settle_threads(tx, [(claim, outcome)]).get(thread_id)


def time_out(tx: Tx, *, limit: int = 500) -> list[str]:
    """Ask for the end of runs that are past their deadline. Returns those whose workers should hear of it."""
    return [row["run_id"] for row in _rows(tx, "time_out", limit=limit)]


def end_overdue(
    tx: Tx, run_id: str, thread_id: str, *, patience_seconds: float
) -> RunStatus | None:
    """
    End a run in the place of its worker, which is dead or does not listen; its later writes are fenced.

    None means that nobody asked for its end, that there is time, or that somebody else is at it.
    """
    if not runs.lock_lost(tx, run_id, thread_id):
        return None
    row = _row(tx, "end_overdue", run_id=run_id, patience=patience_seconds)
    if row is None:
        return None
    outcome = ended_by(Action(row["cancel_action"]), row["cancel_reason"])
    if outcome.thread_status is None:
        runs.roll_back(tx, run_id, thread_id)
    _settle(tx, run_id, thread_id, outcome)
    return outcome.status


def count_end(tx: Tx, lost: Row, status: RunStatus) -> Ended:
    """The end of a run that `runs.expired` found and this transaction ended, with its place among the claims."""
    [ended] = _counted(tx, lost["thread_id"], [lost], status=status)
    _run(tx, "place_end", run_id=ended.run_id, fence=ended.fence)
    return ended


def delete_run(tx: Tx, thread_id: str, run_id: str) -> Stopped | None:
    """
    Delete a run of a locked thread with all it wrote; whoever executes it is fenced from now on.

    What others build upon stays (`checkpoints.is_built_upon`). None means that the thread has no such run.
    """
    rows = _rows(tx, "lock_runs", thread_ids=[thread_id], run_id=run_id)
    if not rows:
        return None
    dead_letters.forget(tx, [thread_id], run_id)
    status = rows[0]["status"]
    if status not in ACTIVE and checkpoints.is_built_upon(tx, run_id, thread_id):
        runs.delete(tx, run_id)
        return Stopped()
    head = _row(tx, "is_head", thread_id=thread_id, run_id=run_id)
    runs.roll_back(tx, run_id, thread_id)
    if status == RunStatus.RUNNING:
        ended = _counted(tx, thread_id, rows, status=None)
        outcome = Outcome(status=RunStatus.INTERRUPTED, thread_status=None)
        following = _settle(tx, run_id, thread_id, outcome)
        return Stopped(ended=ended, asked=[run_id], following=following)
    if status == RunStatus.PENDING:
        ended = _counted(tx, thread_id, rows, status=None)
        return Stopped(ended=ended, following=_rest(tx, thread_id, None))
    if head and head["yes"]:
        _run(tx, "clear", thread_id=thread_id)
    return Stopped()


def delete_threads(tx: Tx, thread_ids: Sequence[str]) -> Stopped:
    """Delete locked threads with everything that hangs on them."""
    rows = _rows(tx, "lock_runs", thread_ids=list(thread_ids), run_id=None)
    active: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] in ACTIVE:
            active.setdefault(row["thread_id"], []).append(row)
    ended = [end for each, its in active.items() for end in _counted(tx, each, its, status=None)]
    runs.delete_threads(tx, thread_ids)
    dead_letters.forget(tx, thread_ids)
    asked = [row["run_id"] for row in rows if row["status"] == RunStatus.RUNNING]
    return Stopped(ended=ended, asked=asked)
