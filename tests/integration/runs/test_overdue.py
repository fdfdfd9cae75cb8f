"""Runs whose worker is lost or does not listen, and runs that take too long."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from integration.runs.rows import RUN, THREAD
from trellis.db import cancel, runs
from trellis_workers.maintenance import rescuer


def expire(engine: Engine) -> None:
    with engine.begin() as tx:
        tx.execute(text("UPDATE run SET lease_expires_at = now() - interval '1 s'"))


@pytest.mark.parametrize(
    ("action", "status", "thread_status"),
    [
        ("interrupt", "interrupted", "interrupted"),
        ("timeout", "timeout", "error"),
        ("rollback", None, "idle"),
    ],
)
def test_end_overdue__the_worker_is_dead(
    engine, a_run, claim, save, stop, one, action, status, thread_status
):
    """Race 22."""
    taken = claim(a_run())
    save(taken, "1")
    stop(taken.thread_id, action)
    expire(engine)

    with engine.begin() as tx:
        assert cancel.end_overdue(tx, taken.run_id, taken.thread_id, patience_seconds=60)

    assert one(RUN, r=taken.run_id) == status
    assert one(THREAD, t=taken.thread_id) == thread_status
    assert one("SELECT count(*) FROM checkpoint") == (0 if action == "rollback" else 1)


def test_end_overdue__the_worker_does_not_listen(engine, a_run, claim, stop, end, one):
    """Its lease is good, and yet the run ends; what it does later is fenced."""
    taken = claim(a_run())
    stop(taken.thread_id)

    with engine.begin() as tx:
        assert runs.expired(tx, patience_seconds=60) == []
        assert not cancel.end_overdue(tx, taken.run_id, taken.thread_id, patience_seconds=60)
        (found,) = runs.expired(tx, patience_seconds=0)
        assert found["run_id"] == taken.run_id
        assert cancel.end_overdue(tx, taken.run_id, taken.thread_id, patience_seconds=0)
        assert runs.hold(tx, [taken]) == set()
    following = claim(a_run(taken.thread_id))
    end(following)

    assert end(taken).outcome.status == "interrupted"
    assert one(THREAD, t=taken.thread_id) == "idle"


def test_rescue__not_against_a_cancel(engine, a_run, claim, stop):
    taken = claim(a_run())
    stop(taken.thread_id)
    expire(engine)

    with engine.begin() as tx:
        assert runs.rescue(tx, taken.run_id, taken.thread_id, backoff_seconds=0) is None


def test_rescue__one_that_cannot_be_now_keeps_nobody_waiting(engine, a_run, claim, save, stop, one):
    """What the first has written is to be deleted, and somebody holds a row of it."""
    first, second = claim(a_run(), lease=-2), claim(a_run(), lease=-1)
    save(first, "1")
    stop(first.thread_id, "rollback")

    with engine.begin() as holder:
        holder.execute(text("SELECT 1 FROM checkpoint FOR UPDATE"))
        assert rescuer.rescue(engine, lambda _: None) == 1

    assert one(RUN, r=second.run_id) == "pending"
    assert rescuer.rescue(engine, lambda _: None) == 1
    assert one("SELECT count(*) FROM run WHERE run_id = :r", r=first.run_id) == 0


def test_time_out(engine, a_run, claim, end, one):
    taken = claim(a_run(timeout_seconds=0.001))
    a_run(timeout_seconds=60)

    with engine.begin() as tx:
        assert cancel.time_out(tx) == [taken.run_id]
    with engine.begin() as tx:
        assert cancel.time_out(tx) == []

    assert end(taken).outcome.status == "timeout"
    assert one(THREAD, t=taken.thread_id) == "error"
