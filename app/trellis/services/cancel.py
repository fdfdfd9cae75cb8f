"""Use cases that end runs before their time: cancel one or many, make room for another, delete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from trellis.db import cancel as rows
from trellis.db.access import forbidden
from trellis.db.cancel import Stopped
from trellis.db.engine import Tx
from trellis.db.queries import Row
from trellis.domain.access import Condition
from trellis.domain.multitask import (
    ASSISTANT_DELETED,
    CANCELLED_RUN,
    CANCELLED_RUNS,
    DISCONNECTED,
    SUPERSEDED,
    TAKEN,
    Action,
    decide,
)
from trellis.domain.runs import ACTIVE, RunStatus
from trellis.errors import NotFound, ThreadNotFound
from trellis.runtime import Runtime
from trellis.stream import log as stream_log
from trellis.telemetry import CANCEL_FAILED, RUN_CANCELLED, log

#: Runs that are looked for at once.
_PAGE = 100

_NONE_FOUND = "No runs found to cancel."
_NONE_MATCHES = (
    "No matching runs to cancel. Please verify the thread ID and run IDs are correct, and the runs "
    "haven't been deleted or completed."
)


def one(
    rt: Runtime,
    tenant_id: str,
    thread_id: str,
    run_id: str,
    *,
    action: Action,
    is_taken: bool = False,
) -> bool:
    """
    Cancel a run; `is_taken` because another one took over its input. True: it is over, because it had not begun.

    :raises NotFound: there is no such run, or it is over.
    """
    reason = (TAKEN if is_taken else "") + CANCELLED_RUN.format(action=action)
    return _one(rt, tenant_id, thread_id, run_id, action=action, reason=reason)


def disconnected(rt: Runtime, tenant_id: str, thread_id: str, run_id: str) -> None:
    """Cancel a run whose client hung up. One that is over stays as it is. Nobody is there to be told of a failure."""
    try:
        _one(rt, tenant_id, thread_id, run_id, action=Action.INTERRUPT, reason=DISCONNECTED)
    except NotFound:
        return
    except Exception as error:
        log().error(CANCEL_FAILED, run_id=run_id, exc_info=error)


def _one(
    rt: Runtime, tenant_id: str, thread_id: str, run_id: str, *, action: Action, reason: str
) -> bool:
    with rt.engine.begin() as tx:
        found = rows.find(tx, tenant_id, run_id)
        if found is None or found["thread_id"] != thread_id:
            raise NotFound(_NONE_FOUND)
        stopped = _stop(tx, tenant_id, thread_id, [run_id], action=action, reason=reason)
        if not (stopped.ended or stopped.asked):
            raise NotFound(_NONE_MATCHES)
    _tell(rt, stopped)
    return not stopped.asked


def many(
    rt: Runtime,
    tenant_id: str,
    *,
    action: Action,
    statuses: Sequence[str] = tuple(ACTIVE),
    thread_id: str | None = None,
    run_ids: Sequence[str] | None = None,
    allowed: Condition | None = None,
) -> None:
    """
    Cancel every run that is meant; None means all, on threads that are `allowed`.

    :raises NotFound: there is none.
    """
    reason = CANCELLED_RUNS.format(action=action)
    is_any = False
    for page in _pages(rt, tenant_id, statuses=statuses, thread_id=thread_id, run_ids=run_ids):
        found = _shown(rt, tenant_id, page, allowed)
        is_any |= bool(found)
        _each(rt, tenant_id, found, action=action, reason=reason, statuses=statuses)
    if not is_any:
        raise NotFound(_NONE_FOUND)


def of_assistant(rt: Runtime, tenant_id: str, assistant_id: str) -> None:
    """Cancel the runs of an assistant that is about to be deleted, keeping what they did."""
    for found in _pages(rt, tenant_id, statuses=tuple(ACTIVE), assistant_id=assistant_id):
        _each(rt, tenant_id, found, action=Action.INTERRUPT, reason=ASSISTANT_DELETED)


def _pages(rt: Runtime, tenant_id: str, **meant: Any) -> Iterator[Sequence[Row]]:
    """The active runs that are meant, some at a time: there may be millions."""
    last: Row | None = None
    while True:
        with rt.autocommit.connect() as tx:
            page = rows.find_active(tx, tenant_id, **meant, after=last, limit=_PAGE)
        yield page
        if len(page) < _PAGE:
            return
        last = page[-1]


def _shown(
    rt: Runtime, tenant_id: str, found: Sequence[Row], allowed: Condition | None
) -> Sequence[Row]:
    if allowed is None:
        return found
    with rt.autocommit.connect() as tx:
        threads = {row["thread_id"] for row in found}
        hidden = forbidden(tx, tenant_id, "threads", threads, allowed)
    return [row for row in found if row["thread_id"] not in hidden]


def _each(
    rt: Runtime,
    tenant_id: str,
    found: Sequence[Row],
    *,
    action: Action,
    reason: str,
    statuses: Sequence[str] = tuple(ACTIVE),
) -> None:
    """Each thread in a transaction of its own: what comes to an end meanwhile is left out."""
    done: list[Stopped] = []
    try:
        for thread, group in groupby(found, key=itemgetter("thread_id")):
            ids = [row["run_id"] for row in group]
            with rt.engine.begin() as tx:
                stopped = _stop(
                    tx, tenant_id, thread, ids, action=action, reason=reason, statuses=statuses
                )
            done.append(stopped)
    finally:
        # At once: each time, a Redis that is away takes its timeout.
        _tell(rt, *done)


def _stop(
    tx: Tx,
    tenant_id: str,
    thread_id: str,
    run_ids: Sequence[str],
    *,
    action: Action,
    reason: str,
    statuses: Sequence[str] = tuple(ACTIVE),
) -> Stopped:
    if not rows.lock_thread(tx, tenant_id, thread_id):
        return Stopped()
    among = [
        row
        for row in rows.active(tx, thread_id)
        if row["run_id"] in run_ids and row["status"] in statuses
    ]
    return rows.stop(tx, thread_id, among=among, action=action, reason=reason)


def make_room(
    tx: Tx, tenant_id: str, thread_id: str, *, strategy: str, run_id: str
) -> Stopped | None:
    """
    Do to the other runs of a thread what the new one's strategy says. None means that the thread is gone.

    The thread stays locked until the commit, so that what was decided holds.

    :raises Conflict: the strategy is to reject, and another run is not over.
    """
    if not rows.lock_thread(tx, tenant_id, thread_id):
        return None
    active = rows.active(tx, thread_id)
    action = decide(strategy, [RunStatus(row["status"]) for row in active])
    if action is None:
        return Stopped()
    reason = SUPERSEDED.format(run_id=run_id, strategy=strategy)
    return rows.stop(tx, thread_id, among=active, action=action, reason=reason)


def tell_superseded(rt: Runtime, stopped: Stopped) -> None:
    """After the commit: the runs that made room hear of it."""
    _tell(rt, Stopped(ended=stopped.ended, asked=stopped.asked))


def delete_run(rt: Runtime, tenant_id: str, thread_id: str, run_id: str) -> None:
    """
    Delete a run with those of its checkpoints that no other run builds upon, whether it is over or not.

    :raises NotFound: there is no such run.
    """
    with rt.engine.begin() as tx:
        found = rows.lock_thread(tx, tenant_id, thread_id)
        stopped = rows.delete_run(tx, thread_id, run_id) if found else None
    if stopped is None:
        raise NotFound("Run not found")
    _tell(rt, stopped)


def delete_thread(rt: Runtime, tenant_id: str, thread_id: str) -> None:
    """
    Delete a thread with its runs, checkpoints and crons, whatever runs on it.

    :raises ThreadNotFound: there is none.
    """
    if not delete_threads(rt, tenant_id, [thread_id]):
        raise ThreadNotFound(thread_id)


def delete_threads(rt: Runtime, tenant_id: str, thread_ids: Sequence[str]) -> int:
    """Delete those of the threads that are there, whatever runs on them. Returns how many."""
    with rt.engine.begin() as tx:
        found = rows.lock_threads(tx, tenant_id, thread_ids)
        stopped = rows.delete_threads(tx, found)
    _tell(rt, stopped)
    stream_log.forget_claims(rt.redis, rt.settings.redis_key_prefix, tenant_id, found)
    return len(found)


def _tell(rt: Runtime, *stopped: Stopped) -> None:
    """After the commit: workers look at their runs, clients that follow a run that no worker ends see its end."""
    asked = [run_id for each in stopped for run_id in each.asked]
    ended = [end for each in stopped for end in each.ended]
    rt.signals(asked)
    stream_log.append_ends(rt.redis, rt.settings.redis_key_prefix, ended)
    for run_id in dict.fromkeys([*(end.run_id for end in ended), *asked]):
        log().info(RUN_CANCELLED, run_id=run_id)
    for each in stopped:
        if each.following is not None:
            rt.announcer(each.following.run_id, each.following.graph_id)
