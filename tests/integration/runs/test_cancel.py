"""Ends that somebody asked for, against everything else that may happen at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from trellis.db import cancel, checkpoints, runs
from trellis.db.cancel import Stopped
from trellis.db.checkpoints.codec import pack_body
from trellis.db.rounds import Finish, Round, Write
from trellis.domain.ids import new_id
from trellis.domain.multitask import Action, decide
from trellis.domain.runs import Claim, Outcome, RunStatus, ThreadStatus
from trellis.errors import Conflict, Fenced

SUCCESS = Outcome(status=RunStatus.SUCCESS)
FAILED = Outcome(
    status=RunStatus.ERROR,
    thread_status=ThreadStatus.ERROR,
    error={"error": "ValueError", "message": "boom"},
)
THREAD = "SELECT status FROM thread WHERE thread_id = :t"
RUN = "SELECT status FROM run WHERE run_id = :r"
WHY = "SELECT error->>'message' FROM thread WHERE thread_id = :t"

Stop = Callable[..., Stopped]


@pytest.fixture
def stop(engine: Engine) -> Stop:
    """Ask for the end of a thread's active runs."""

    def ask(thread_id: str, action: str = "interrupt", reason: str = "why") -> Stopped:
        with engine.begin() as tx:
            assert cancel.lock_thread(tx, "default", thread_id)
            among = cancel.active(tx, thread_id)
            return cancel.stop(tx, thread_id, among=among, action=Action(action), reason=reason)

    return ask


@pytest.fixture
def end(engine: Engine) -> Callable[..., object]:
    """Finish as a worker does: in a round of the group commit, with what it still writes."""

    def play(claim: Claim, outcome: Outcome = SUCCESS, *writes: Write) -> object:
        item = Finish(claim=claim, outcome=outcome)
        with engine.begin() as tx:
            results = Round(tx, [*writes, item], cache=checkpoints.Cache()).execute()
        return results[id(item)]

    return play


@pytest.fixture
def save(engine: Engine) -> Callable[..., None]:
    """Write a checkpoint of a run, and a special write on an earlier one if asked."""

    def write(claim: Claim, checkpoint_id: str, *, answer: str | None = None) -> None:
        with engine.begin() as tx:
            Round(tx, [rows_of(claim, checkpoint_id, answer)], cache=checkpoints.Cache()).execute()

    return write


def rows_of(claim: Claim, checkpoint_id: str, answer: str | None = None) -> Write:
    row = checkpoints.CheckpointRow(
        claim.thread_id, "", checkpoint_id, None, claim.run_id, claim.fence, BODY, "{}"
    )
    rows = checkpoints.Rows(checkpoints=[row])
    if answer is not None:
        data = answer.encode()
        rows = checkpoints.Rows(
            writes=[
                checkpoints.WriteRow(
                    claim.thread_id, "", checkpoint_id, "task", -4, "c", "t", data, "", claim.run_id
                )
            ]
        )
    return Write(claim=claim, rows=rows)


#: A checkpoint's body without anything in it.
BODY = pack_body({"inline": {}, "channel_versions": {}})


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


def test_interrupt__while_a_finish_holds_the_thread(engine, a_run, claim, stop, one):
    """Race 19, both at once: the cancel waits for the finish, and then finds nothing to do."""
    taken = claim(a_run())
    finishing = engine.connect()
    runs.lock_threads(finishing, [taken.thread_id])
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop, taken.thread_id)
        runs.finish(finishing, [(taken, SUCCESS)])
        assert not stopping.done()
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

    assert stop(thread_id).ended == [first, second]
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

    assert stopped == Stopped(ended=[waiting])
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


def test_stop__while_a_claim_holds_the_thread(engine, a_run, a_thread, stop, one):
    """Race 20, the other way round: the cancel sees a running run, and asks its worker."""
    thread_id = a_thread()
    run_id = a_run(thread_id)
    claiming = engine.connect()
    runs.claim(claiming, {run_id: new_id()}, owner="w", lease_seconds=9)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop, thread_id)
        claiming.commit()
        claiming.close()

        assert stopping.result(5).asked == [run_id]
    assert one("SELECT cancel_action FROM run") == "interrupt"


# Strategies


def create(engine: Engine, row: dict[str, object], strategy: str) -> bool:
    """What services.runs does for a strategy other than enqueue."""
    row = {**row, "run_id": new_id(), "multitask_strategy": strategy}
    try:
        with engine.begin() as tx:
            cancel.lock_thread(tx, "default", str(row["thread_id"]))
            active = cancel.active(tx, str(row["thread_id"]))
            action = decide(strategy, [RunStatus(each["status"]) for each in active])
            if action:
                cancel.stop(tx, str(row["thread_id"]), among=active, action=action, reason="new")
            return runs.enqueue(tx, row) is not None
    except Conflict:
        return False


@pytest.fixture
def row(defaults, a_thread):
    return {**defaults, "assistant_id": new_id(), "thread_id": a_thread()}


def test_reject__many_at_once(engine, row, one):
    barrier = threading.Barrier(8)

    def attempt(_: int) -> bool:
        barrier.wait()
        return create(engine, row, "reject")

    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(attempt, range(8)))

    assert accepted.count(True) == 1
    assert one("SELECT count(*) FROM run") == 1


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
def test_supersede__create_against_finish(engine, row, a_run, claim, end, one, strategy):
    """Race 24: the create waits for the finish, or the finish sees the new run."""
    running = claim(a_run(row["thread_id"]))
    assert create(engine, row, strategy)

    finished = end(running)

    assert finished.following is not None
    assert one(THREAD, t=row["thread_id"]) == "busy"
    assert one(WHY, t=row["thread_id"]) == "new"


def test_supersede__pending_ones_never_run(engine, row, a_run, claim, one):
    waiting = a_run(row["thread_id"])

    assert create(engine, row, "interrupt")

    assert one(RUN, r=waiting) == "interrupted"
    assert claim(waiting) is None
    assert one(THREAD, t=row["thread_id"]) == "busy"


# Workers that are lost, or do not listen


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


def test_time_out(engine, a_run, claim, end, one):
    taken = claim(a_run(timeout_seconds=0.001))
    a_run(timeout_seconds=60)

    with engine.begin() as tx:
        assert cancel.time_out(tx) == [taken.run_id]
    with engine.begin() as tx:
        assert cancel.time_out(tx) == []

    assert end(taken).outcome.status == "timeout"
    assert one(THREAD, t=taken.thread_id) == "error"


# Deleting


def test_delete_run__fences_its_worker(engine, a_run, claim, save, end, one):
    """Race 25."""
    taken = claim(a_run())
    save(taken, "1")
    with engine.begin() as tx:
        cancel.lock_thread(tx, "default", taken.thread_id)
        assert cancel.delete_run(tx, taken.thread_id, taken.run_id).asked == [taken.run_id]

    assert isinstance(end(taken), Fenced)
    assert one("SELECT count(*) FROM checkpoint") == 0
    assert one(THREAD, t=taken.thread_id) == "idle"


def test_delete_run__waits_for_a_writer(engine, a_run, claim, one):
    """A row written by a round that is under way goes as well."""
    taken = claim(a_run())
    writing = engine.connect()
    Round(writing, [rows_of(taken, "1")], cache=checkpoints.Cache()).execute()

    def delete() -> None:
        with engine.begin() as tx:
            cancel.lock_thread(tx, "default", taken.thread_id)
            cancel.delete_run(tx, taken.thread_id, taken.run_id)

    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(delete)
        writing.commit()
        writing.close()
        deleting.result(5)

    assert one("SELECT count(*) FROM checkpoint") == 0


def test_delete_run__of_another_thread(engine, a_run, a_thread):
    run_id = a_run()

    with engine.begin() as tx:
        assert cancel.delete_run(tx, a_thread(), run_id) is None


def test_delete_thread__while_a_run_is_active(engine, a_run, claim, save, end, one):
    """Race 25."""
    taken = claim(a_run())
    save(taken, "1")
    a_run(taken.thread_id)
    with engine.begin() as tx:
        cancel.lock_thread(tx, "default", taken.thread_id)
        assert cancel.delete_thread(tx, taken.thread_id) == [taken.run_id]

    assert isinstance(end(taken), Fenced)
    assert [one(f"SELECT count(*) FROM {t}") for t in ("thread", "run", "checkpoint")] == [0, 0, 0]
