"""Cancels, against everything else that may happen at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from integration.runs.rows import FAILED, RUN, SUCCESS, THREAD, WHY, rows_of
from trellis.db import cancel, runs
from trellis.db.cancel import Stopped
from trellis.domain.ids import new_id
from trellis.domain.multitask import Action
from trellis.domain.runs import Outcome, RunStatus, ThreadStatus

# Running runs


@pytest.mark.parametrize("outcome", [SUCCESS, FAILED], ids=["success", "error"])
def test_interrupt__before_the_finish(a_run, claim, stop, end, one, outcome):
    """Race 19: whoever takes the lock first decides."""
    taken = claim(a_run())

    assert stop(taken.thread_id).asked == [taken.run_id]
    finished = end(taken, outcome)

    assert finished.outcome.status == "interrupted"
    assert one(RUN, r=taken.run_id) == "interrupted"
    assert one(THREAD, t=taken.thread_id) == "interrupted"
    assert one(WHY, t=taken.thread_id) == "why"


def test_interrupt__after_the_finish(a_run, claim, stop, end, one):
    taken = claim(a_run())
    end(taken)

    assert stop(taken.thread_id) == Stopped()
    assert one(RUN, r=taken.run_id) == "success"
    assert one(THREAD, t=taken.thread_id) == "idle"


def test_interrupt__while_a_finish_holds_the_thread(engine, a_run, claim, stop, until_blocked, one):
    """Race 19, both at once: the cancel waits for the finish, and then finds nothing to do."""
    taken = claim(a_run())
    finishing = engine.connect()
    runs.lock_threads(finishing, [taken.thread_id])
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop, taken.thread_id)
        runs.finish(finishing, [(taken, SUCCESS)])
        until_blocked(finishing)
        finishing.commit()
        finishing.close()

        assert stopping.result(5) == Stopped()
    assert one(RUN, r=taken.run_id) == "success"


def test_finish__again_after_a_cancel_decided(a_run, claim, stop, end):
    """Race 29: the answer to the first commit was lost."""
    taken = claim(a_run())
    stop(taken.thread_id)
    end(taken)

    assert end(taken).outcome.status == "interrupted"


def test_rollback__whatever_the_worker_proposes(a_run, a_thread, claim, stop, end, save, one):
    thread_id = a_thread()
    before = claim(a_run(thread_id))
    save(before, "1")
    end(before)
    undone = claim(a_run(thread_id))
    save(undone, "2")

    stop(thread_id, "rollback")
    finished = end(undone, SUCCESS, rows_of(undone, "3"))

    assert finished.outcome.thread_status is None
    assert one("SELECT count(*) FROM run") == 1
    assert one("SELECT string_agg(checkpoint_id, ',') FROM checkpoint") == "1"
    assert one(THREAD, t=thread_id) == "idle"
    assert one("SELECT error->>'error' FROM thread") == "UserRollback"


def test_rollback__on_a_thread_that_waited_for_a_human(
    a_run, a_thread, claim, stop, end, save, one
):
    """What the undone run had answered is open again, and an earlier answer is what it was."""
    thread_id = a_thread()
    asking = claim(a_run(thread_id))
    save(asking, "1")
    save(asking, "1", answer="old")
    waiting = Outcome(
        status=RunStatus.SUCCESS,
        thread_status=ThreadStatus.INTERRUPTED,
        interrupts={"task": [{"id": "i", "value": "?"}]},
    )
    end(asking, waiting)
    answering = claim(a_run(thread_id))
    save(answering, "1", answer="new")
    save(answering, "1", answer="newer")

    stop(thread_id, "rollback")
    end(answering)

    assert one(THREAD, t=thread_id) == "interrupted"
    assert one("SELECT interrupts->'task'->0->>'id' FROM thread") == "i"
    assert bytes(one("SELECT data FROM checkpoint_write")) == b"old"
    assert str(one("SELECT run_id FROM checkpoint_write")) == asking.run_id


@pytest.mark.parametrize(
    ("actions", "kept"),
    [
        (["interrupt", "rollback"], "rollback"),
        (["rollback", "interrupt"], "rollback"),
        (["timeout", "interrupt"], "timeout"),
        (["interrupt", "interrupt"], "interrupt"),
    ],
)
def test_stop__the_stronger_wish_wins(a_run, claim, stop, one, actions, kept):
    taken = claim(a_run())

    for number, action in enumerate(actions):
        stop(taken.thread_id, action, f"{action} {number}")

    assert one("SELECT cancel_action FROM run") == kept
    last = max(n for n, action in enumerate(actions) if action == kept)
    assert one("SELECT cancel_reason FROM run") == f"{kept} {last}"


def test_renew__tells_of_the_wish(engine, a_run, claim, stop):
    taken = claim(a_run())
    stop(taken.thread_id)

    with engine.begin() as tx:
        assert runs.renew(tx, [taken], lease_seconds=9) == {taken.run_id: "interrupt"}


def test_release__not_after_a_cancel(engine, a_run, claim, stop):
    taken = claim(a_run())
    stop(taken.thread_id)

    with engine.begin() as tx:
        assert runs.release(tx, [taken]) == []


# Pending runs


def test_stop__pending(a_run, a_thread, stop, claim, one):
    thread_id = a_thread()
    first, second = a_run(thread_id), a_run(thread_id)

    ended = stop(thread_id).ended

    assert [(each.run_id, each.fence) for each in ended] == [(first, 1), (second, 2)]
    assert one("SELECT fence FROM thread WHERE thread_id = :t", t=thread_id) == 2
    assert one("SELECT count(*) FROM run WHERE status = 'interrupted'") == 2
    assert one(THREAD, t=thread_id) == "idle"
    assert claim(first) is None


def test_stop__pending_behind_a_running_one(engine, a_run, a_thread, claim, one):
    thread_id = a_thread()
    running, waiting = claim(a_run(thread_id)), a_run(thread_id)
    with engine.begin() as tx:
        cancel.lock_thread(tx, "default", thread_id)
        among = [row for row in cancel.active(tx, thread_id) if row["run_id"] == waiting]
        stopped = cancel.stop(tx, thread_id, among=among, action=Action.INTERRUPT, reason="")

    [end] = stopped.ended
    assert stopped == Stopped(ended=[end])
    assert (end.run_id, end.thread_id, end.fence) == (waiting, thread_id, running.fence + 1)
    assert one(RUN, r=running.run_id) == "running"
    assert one(THREAD, t=thread_id) == "busy"


def test_stop__pending_on_a_failed_thread(a_run, a_thread, claim, end, stop, one):
    """The thread is what it was before the run that never began."""
    thread_id = a_thread()
    end(claim(a_run(thread_id)), FAILED)
    a_run(thread_id)

    stop(thread_id)

    assert one(THREAD, t=thread_id) == "error"
    assert one(WHY, t=thread_id) == "boom"


@pytest.mark.parametrize(
    ("action", "status", "count"), [("interrupt", "interrupted", 1), ("rollback", "idle", 0)]
)
def test_stop__pending_after_a_crash(engine, a_run, claim, save, stop, one, action, status, count):
    """It had begun: what it saved is kept, or goes as well."""
    taken = claim(a_run())
    save(taken, "1")
    with engine.begin() as tx:
        runs.release(tx, [taken])

    stop(taken.thread_id, action)

    assert one(THREAD, t=taken.thread_id) == status
    assert one("SELECT count(*) FROM checkpoint") == count


def test_stop__of_a_temporary_thread(a_run, stop, one):
    """Nobody asks for it any more, so it must be pruned one day."""
    a_run(temporary=True)

    stop(str(one("SELECT thread_id FROM thread")))

    assert one("SELECT expires_at IS NOT NULL FROM thread")


def test_claim__while_a_cancel_holds_the_thread(engine, a_run, a_thread, claim, one):
    """Race 20: a claim never waits; when it is offered again there is nothing to claim."""
    thread_id = a_thread()
    run_id = a_run(thread_id)
    cancelling = engine.connect()
    cancel.lock_thread(cancelling, "default", thread_id)
    among = cancel.active(cancelling, thread_id)

    assert claim(run_id) is None
    cancel.stop(cancelling, thread_id, among=among, action=Action.INTERRUPT, reason="")
    cancelling.commit()
    cancelling.close()

    assert claim(run_id) is None
    assert one(RUN, r=run_id) == "interrupted"


def test_stop__while_a_claim_holds_the_thread(engine, a_run, a_thread, stop, until_blocked, one):
    """Race 20, the other way round: the cancel sees a running run, and asks its worker."""
    thread_id = a_thread()
    run_id = a_run(thread_id)
    claiming = engine.connect()
    runs.claim(claiming, {run_id: new_id()}, owner="w", lease_seconds=9)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop, thread_id)
        until_blocked(claiming)
        claiming.commit()
        claiming.close()

        assert stopping.result(5).asked == [run_id]
    assert one("SELECT cancel_action FROM run") == "interrupt"
