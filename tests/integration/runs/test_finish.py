"""Ends: written once, by the holder of the fence; lost leases, releases and dead letters."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from integration.runs.rows import SUCCESS
from trellis.db import runs
from trellis.domain.ids import new_id
from trellis.domain.runs import (
    ACTIVE,
    TERMINAL,
    TRANSITIONS,
    Outcome,
    RunStatus,
    ThreadStatus,
    Ward,
)
from trellis_workers.maintenance import pruner

ERROR = Outcome(
    status=RunStatus.ERROR,
    thread_status=ThreadStatus.ERROR,
    error={"error": "ValueError", "message": "boom"},
)


def lose(engine, claim):
    """Let the lease of a claim run out, and sweep."""
    with engine.begin() as tx:
        tx.execute(
            text(
                "UPDATE run SET lease_expires_at = now() - interval '1 s' WHERE status = 'running'"
            )
        )
    with engine.begin() as tx:
        return runs.rescue(tx, claim.run_id, claim.thread_id, backoff_seconds=0)


def test_finish(a_run, claim, finish, one):
    taken = claim(a_run())

    assert finish(taken)
    assert one("SELECT status FROM run WHERE run_id = :r", r=taken.run_id) == "success"


def test_finish__many_are_locked_in_order(engine, a_run, claim, until_blocked):
    """Heartbeats lock the same runs, many at once. Had the two no common order, each would wait for the other."""
    youngest_first = sorted((new_id() for _ in range(3)), reverse=True)
    taken = [claim(a_run(run_id=each)) for each in youngest_first][::-1]
    ends = [(each, SUCCESS) for each in reversed(taken)]

    def end_all() -> None:
        with engine.begin() as tx:
            runs.finish(tx, ends)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as heartbeat:
            runs.renew(heartbeat, taken[:1], lease_seconds=15)
            ending = pool.submit(end_all)
            until_blocked(heartbeat)
            heartbeat.execute(text("SET LOCAL lock_timeout = '1s'"))
            assert len(runs.renew(heartbeat, taken, lease_seconds=15)) == 3
        ending.result(20)


def test_finish__after_the_lease_was_lost(engine, a_run, claim, finish):
    """Race 13: the old attempt ends after the new one has begun; only the new one counts."""
    first = claim(a_run())
    assert lose(engine, first) == "pending"
    second = claim(first.run_id)

    assert not finish(first)
    assert finish(second)


def test_finish__answer_was_lost(a_run, claim, finish):
    """Race 29: the same end again is the same end."""
    taken = claim(a_run())
    finish(taken)

    assert finish(taken)
    assert not finish(taken, ERROR)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_terminal_status_is_final(engine, a_run, claim, finish, status):
    taken = claim(a_run())
    finish(taken, Outcome(status=status))
    other = next(s for s in sorted(TERMINAL) if s != status)

    with pytest.raises(IntegrityError, match="is final"), engine.begin() as tx:
        tx.execute(
            text("UPDATE run SET status = :s WHERE run_id = :r"), {"s": other, "r": taken.run_id}
        )


def test_transitions_name_every_status_of_the_table(one):
    check = one(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'ck_run_status'"
    )

    assert set(re.findall(r"'(\w+)'", check)) == set(TRANSITIONS)
    assert set(TRANSITIONS) - ACTIVE == TERMINAL


def test_settle_threads(engine, a_thread, a_run, claim, finish, one):
    thread_id = a_thread()
    first, second = a_run(thread_id), a_run(thread_id)
    taken = claim(first)
    finish(taken)

    with engine.begin() as tx:
        nexts = runs.settle_threads(tx, [(taken, ERROR)])

    assert nexts[thread_id].run_id == second
    assert one("SELECT status FROM thread WHERE thread_id = :t", t=thread_id) == "busy"


def test_settle_threads__nothing_waits(engine, a_run, claim, finish, one):
    taken = claim(a_run())
    finish(taken, ERROR)

    with engine.begin() as tx:
        assert runs.settle_threads(tx, [(taken, ERROR)]) == {}
    assert one("SELECT status FROM thread WHERE thread_id = :t", t=taken.thread_id) == "error"
    assert (
        one("SELECT error->>'message' FROM thread WHERE thread_id = :t", t=taken.thread_id)
        == "boom"
    )


def test_renew__after_the_lease_was_lost(engine, a_run, claim):
    first = claim(a_run())
    lose(engine, first)
    second = claim(first.run_id)

    with engine.begin() as tx:
        assert runs.renew(tx, [first], lease_seconds=9) == {}
        assert runs.renew(tx, [second], lease_seconds=9) == {second.run_id: None}


def test_rescue__the_heartbeat_came_first(engine, a_run, claim):
    """Race 10: the sweep looks again under the lock."""
    taken = claim(a_run())

    with engine.begin() as tx:
        assert runs.rescue(tx, taken.run_id, taken.thread_id, backoff_seconds=0) is None


def test_rescue__gives_up_after_three_crashes(engine, a_run, claim, one):
    run_id = a_run()

    ends = [lose(engine, claim(run_id, ward=Ward.ALONE if n == 2 else Ward.OPEN)) for n in range(3)]

    assert ends == ["pending", "pending", "error"]
    assert one("SELECT attempts FROM dead_letter WHERE run_id = :r", r=run_id) == 3
    assert one("SELECT status FROM thread") == "error"


def test_release__keeps_the_crash_budget(engine, a_run, claim, one):
    taken = claim(a_run())

    with engine.begin() as tx:
        assert [p.run_id for p in runs.release(tx, [taken])] == [taken.run_id]
    assert one("SELECT crashes FROM run WHERE run_id = :r", r=taken.run_id) == 0
    assert claim(taken.run_id).attempt == 2


def test_hold__a_takeover_waits_for_the_writer(engine, a_run, claim):
    """Race 12. Without the row lock the zombie's row below would be committed after the takeover."""
    first = claim(a_run(), lease=0.01)
    order: list[str] = []
    writer = engine.connect()
    assert runs.hold(writer, [first]) == {first.run_id}

    def take_over() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with engine.begin() as tx:
                if runs.rescue(tx, first.run_id, first.thread_id, backoff_seconds=0):
                    order.append("taken over")
                    return

    thread = threading.Thread(target=take_over)
    thread.start()
    thread.join(0.3)
    order.append("written")
    writer.commit()
    writer.close()
    thread.join()

    assert order == ["written", "taken over"]


def test_hold__after_a_takeover(engine, a_run, claim):
    first = claim(a_run())
    lose(engine, first)

    with engine.begin() as tx:
        assert runs.hold(tx, [first]) == set()


def test_delete_temporary_threads(engine, a_run, claim, finish, one):
    """Race 39: a thread past its time goes with all it has, unless a run is active on it."""
    active = new_id()
    finish(claim(a_run(temporary=True)))
    a_run(new_thread=active, temporary=True)
    with engine.begin() as tx:
        tx.execute(text("UPDATE thread SET expires_at = now() - interval '1 s'"))

    with engine.begin() as tx:
        assert runs.delete_temporary_threads(tx) == 1
    assert str(one("SELECT thread_id FROM thread")) == active
    assert one("SELECT count(*) FROM run") == 1


def test_prune_temporary_threads__the_large_ones_take_turns(
    engine, a_run, claim, finish, monkeypatch
):
    """Each batch is a transaction: one that runs out of time takes only its own along."""
    for _ in range(5):
        finish(claim(a_run(temporary=True)))
    with engine.begin() as tx:
        tx.execute(text("UPDATE thread SET expires_at = now() - interval '1 s'"))
    monkeypatch.setattr(pruner, "_AT_ONCE", 2)
    commits = []
    with_commits = engine.execution_options()
    event.listen(with_commits, "commit", commits.append)

    assert [pruner.prune_temporary_threads(with_commits, limit=4) for _ in range(3)] == [4, 1, 0]

    assert len(commits) == 4
