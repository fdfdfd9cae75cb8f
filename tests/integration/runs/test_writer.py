"""The group commit: one transaction for many runs, and one run's trouble is its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from trellis.db import checkpoints
from trellis.db.engine import new_engine
from trellis.db.rounds import Finish, Read, Release, Take, Write
from trellis.db.writer import Writer
from trellis.dev.process import poll_until
from trellis.domain.runs import Claim, Outcome, RunStatus
from trellis.errors import Fenced

SUCCESS = Outcome(status=RunStatus.SUCCESS)


@pytest.fixture
def writer(database_url) -> Iterator[Writer]:
    own = new_engine(database_url, pool_size=1)
    writer = Writer(own, cache=checkpoints.Cache(), patience_seconds=5)
    yield writer
    writer.close()
    own.dispose()


def take(writer: Writer, run_id: str, lease: float = 15) -> Claim:
    taken = writer.submit(Take(run_id=run_id, owner="w", lease_seconds=lease)).result(10)
    return taken.run.claim


def a_row(claim: Claim, *, metadata: str = "{}", checkpoint_id: str = "1") -> Write:
    row = checkpoints.CheckpointRow(
        claim.thread_id, "", checkpoint_id, None, claim.run_id, claim.fence, b"\x00", metadata
    )
    return Write(claim=claim, rows=checkpoints.Rows(checkpoints=[row]))


COUNT = "SELECT count(*) FROM checkpoint WHERE run_id = :r"


def test_write_and_finish(writer, a_run, one):
    claim = take(writer, a_run())

    writer.later(a_row(claim))
    writer.submit(Finish(claim=claim, outcome=SUCCESS)).result(10)

    assert one(COUNT, r=claim.run_id) == 1
    assert one("SELECT status FROM thread") == "idle"


def test_take__stale_hint(writer, a_run):
    claim = take(writer, a_run())

    again = writer.submit(Take(run_id=claim.run_id, owner="w", lease_seconds=9))

    assert again.result(10) is None


def test_take__many_hints_of_one_thread_in_one_round(writer, a_thread, a_run):
    thread_id = a_thread()
    hints = [a_run(thread_id) for _ in range(5)]

    futures = [writer.submit(Take(run_id=r, owner="w", lease_seconds=9)) for r in hints]

    assert [f.result(10) is not None for f in futures].count(True) == 1


def test_take__no_thread_is_left_to_try_again_in(writer, engine, a_run, monkeypatch):
    """User code may use up all that the system gives: the database thread does not die of it."""
    run_id = a_run()

    def refuse(_: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    with engine.begin() as holder:
        holder.exec_driver_sql("SELECT 1 FROM thread FOR UPDATE")
        hint = writer.submit(Take(run_id=run_id, owner="w", lease_seconds=9))
        assert hint.result(10) is None

    assert take(writer, run_id).run_id == run_id


def test_write__marks_progress(writer, a_run, one):
    claim = take(writer, a_run())

    writer.submit(a_row(claim)).result(10)

    assert one("SELECT has_progress FROM run WHERE run_id = :r", r=claim.run_id) is True


def test_write__fenced(writer, engine, a_run, one):
    """Race 12: nothing of a replaced attempt is written, and it does not end the run either."""
    first = take(writer, a_run(), lease=0.001)
    with engine.begin() as tx:
        tx.execute(text("UPDATE run SET status = 'pending', lease_expires_at = NULL"))
    second = take(writer, first.run_id)

    with pytest.raises(Fenced):
        writer.submit(a_row(first)).result(10)
    with pytest.raises(Fenced):
        writer.submit(Finish(claim=first, outcome=SUCCESS)).result(10)
    writer.submit(a_row(second)).result(10)

    assert one(COUNT, r=first.run_id) == 1
    assert one("SELECT fence FROM checkpoint") == second.fence
    # A graph that was left to itself may write for long, and nobody would clear it.
    assert writer.failure(first) is None


def test_write__a_bad_row_fails_its_own_run_only(writer, a_run, one):
    good, bad = take(writer, a_run()), take(writer, a_run())

    writer.later(a_row(bad, metadata="no json"))
    writer.later(a_row(good))
    ends = [writer.submit(Finish(claim=c, outcome=SUCCESS)) for c in (bad, good)]

    assert "invalid input syntax for type json" in str(ends[0].exception(10))
    assert ends[1].exception(10) is None
    assert one("SELECT status FROM run WHERE run_id = :r", r=bad.run_id) == "running"
    assert "invalid input syntax" in str(writer.forget(bad))


def test_finish__after_a_failed_write_the_failure_can_be_recorded(writer, a_run, one):
    claim = take(writer, a_run())
    writer.later(a_row(claim, metadata="no json"))
    failed = Outcome(status=RunStatus.ERROR, error={"error": "E", "message": "m"})
    assert writer.submit(Finish(claim=claim, outcome=SUCCESS)).exception(10)

    writer.forget(claim)
    writer.submit(Finish(claim=claim, outcome=failed)).result(10)

    assert one("SELECT status FROM run WHERE run_id = :r", r=claim.run_id) == "error"


def test_release(writer, a_run):
    claim = take(writer, a_run())

    back = writer.submit(Release(claim=claim)).result(10)

    assert back.run_id == claim.run_id
    assert take(writer, claim.run_id).attempt == 2


def test_read__sees_what_was_queued_before(writer, a_run):
    claim = take(writer, a_run())
    writer.later(a_row(claim))

    rows = text("SELECT count(*) FROM checkpoint")
    seen = writer.submit(Read(query=lambda tx: tx.execute(rows).scalar(), claim=claim))

    assert seen.result(10) == 1


def test_later__is_written_even_if_nothing_follows(writer, a_run, one):
    claim = take(writer, a_run())
    writer.later(a_row(claim))
    deadline = time.monotonic() + 10

    while not one(COUNT, r=claim.run_id):
        assert time.monotonic() < deadline


def test_close__writes_what_waits(database_url, a_run, one):
    own = new_engine(database_url, pool_size=1)
    writer = Writer(own, cache=checkpoints.Cache())
    claim = take(writer, a_run())
    writer.later(a_row(claim))

    writer.close()
    own.dispose()

    assert one(COUNT, r=claim.run_id) == 1


def test_read__its_error_is_its_own(writer, a_run):
    bad = writer.submit(Read(query=lambda tx: tx.execute(text("SELECT 1/0"))))
    good = writer.submit(Read(query=lambda tx: tx.execute(text("SELECT 1")).scalar()))

    assert "division by zero" in str(bad.exception(10))
    assert good.result(10) == 1


def test_round__commit_succeeded_and_its_answer_was_lost(engine, a_run, one):
    """Races 8 and 29: "execute, then raise" on every commit's first try changes nothing."""
    broken = {"left": 0}

    @event.listens_for(engine, "commit")
    def fail_after_commit(connection) -> None:
        if broken["left"]:
            broken["left"] -= 1
            connection.connection.dbapi_connection.commit()
            raise OperationalError("commit", {}, Exception("the answer was lost"))

    writer = Writer(engine, cache=checkpoints.Cache(), patience_seconds=5)
    run_id = a_run()
    broken["left"] = 1
    claim = take(writer, run_id)
    broken["left"] = 1
    writer.later(a_row(claim))
    writer.submit(Finish(claim=claim, outcome=SUCCESS)).result(10)
    writer.close()

    assert claim.attempt == 1
    assert one("SELECT attempt FROM run WHERE run_id = :r", r=run_id) == 1
    assert one(COUNT, r=run_id) == 1


def test_round__connections_are_cut(writer, engine, a_run, one):
    """A database that restarts is waited for."""
    claim = take(writer, a_run())
    with engine.connect() as tx:
        tx.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )

    writer.later(a_row(claim))
    writer.submit(Finish(claim=claim, outcome=SUCCESS)).result(10)

    assert one(COUNT, r=claim.run_id) == 1


def test_round__the_server_is_a_standby_for_a_moment(writer, engine, a_run, one):
    """During a failover connections are accepted by one that may not write: the primary is looked for again."""
    claim = take(writer, a_run())
    database = engine.url.database
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
        tx.execute(text(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on'))
        try:
            tx.execute(
                text(
                    f"SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE {others}"
                )
            )
            writer.later(a_row(claim))
            finish = writer.submit(Finish(claim=claim, outcome=SUCCESS))
            came = text(f"SELECT 1 FROM pg_stat_activity WHERE {others}")
            assert poll_until(lambda: tx.execute(came).first() is not None, seconds=5)
        finally:
            tx.execute(text(f'ALTER DATABASE "{database}" RESET default_transaction_read_only'))
        finish.result(10)

    assert one(COUNT, r=claim.run_id) == 1


def test_round__many_threads(writer, a_run, one):
    """Whatever is queued from wherever ends, in order, each once."""
    ids = [a_run() for _ in range(40)]

    def work(run_id: str) -> None:
        claim = take(writer, run_id)
        for n in range(5):
            writer.later(a_row(claim, checkpoint_id=str(n)))
        writer.submit(Finish(claim=claim, outcome=SUCCESS)).result(10)

    threads = [threading.Thread(target=work, args=(run_id,)) for run_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert one("SELECT count(*) FROM checkpoint") == 200
    assert one("SELECT count(*) FROM run WHERE status = 'success'") == 40


PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'runs_%'"


def count(writer: Writer, query: str) -> int:
    return writer.submit(Read(query=lambda tx: tx.execute(text(query)).scalar())).result(10)


def test_round__plans_each_statement_once(writer, a_run):
    take(writer, a_run())
    first = count(writer, PREPARED)
    take(writer, a_run())

    assert first == count(writer, PREPARED) > 0


def test_round__a_pooler_took_the_prepared_statements_away(writer, a_run):
    """PgBouncer in transaction mode: go on without them, for good."""
    take(writer, a_run())
    writer.submit(Read(query=lambda tx: tx.execute(text("DEALLOCATE ALL")))).result(10)

    assert take(writer, a_run()).attempt == 1
    assert count(writer, PREPARED) == 0


def test_release__keeps_what_was_written_before_it(writer, a_run, one):
    claim = take(writer, a_run())

    writer.later(a_row(claim))
    back = writer.submit(Release(claim=claim)).result(10)

    assert back.run_id == claim.run_id
    assert writer.failure(claim) is None
    assert one(COUNT, r=claim.run_id) == 1
    assert one("SELECT has_progress FROM run")
    assert one("SELECT status FROM run") == "pending"
