"""The outbox: whoever ends a run, its webhook is there when that commits, and only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from trellis.db import checkpoints, runs, webhooks
from trellis.db.engine import new_engine
from trellis.db.rounds import Finish, Take
from trellis.db.writer import Writer
from trellis.domain.runs import Outcome, RunStatus, Ward

HOOK = "https://example.com/hook"
KWARGS = {"input": 1, "webhook": HOOK}


@pytest.fixture
def outbox(engine: Engine) -> Callable[[], list[Any]]:
    def read() -> list[Any]:
        with engine.connect() as tx:
            found = tx.execute(text("SELECT run_id::text, url, payload FROM webhook_outbox"))
            return [tuple(row) for row in found]

    return read


def sweep(engine: Engine, run_id: str, thread_id: str) -> str | None:
    with engine.begin() as tx:
        tx.execute(
            text("UPDATE run SET lease_expires_at = now() - interval '1 s' WHERE status='running'")
        )
    with engine.begin() as tx:
        return runs.rescue(tx, run_id, thread_id, backoff_seconds=0)


@pytest.mark.parametrize("status", ["success", "error", "timeout", "interrupted"])
def test_finish(a_run, claim, finish, outbox, status: str) -> None:
    error = {"error": "ValueError", "message": "boom"} if status != "success" else None
    taken = claim(a_run(kwargs=KWARGS))

    finish(taken, Outcome(status=RunStatus(status), error=error))

    [(run_id, url, payload)] = outbox()
    assert (run_id, url) == (taken.run_id, HOOK)
    assert (payload["run_id"], payload["status"]) == (taken.run_id, status)
    assert (payload["error"], payload["kwargs"]) == (error, KWARGS)
    assert payload["run_started_at"] < payload["run_ended_at"]


def test_finish__without_a_webhook(a_run, claim, finish, outbox) -> None:
    finish(claim(a_run()))

    assert outbox() == []


def test_finish__the_transaction_fails(engine, a_run, claim, outbox, one) -> None:
    """A crash between the end and the commit: neither is there."""
    taken = claim(a_run(kwargs=KWARGS))

    with engine.connect() as tx:
        assert runs.finish(tx, [(taken, Outcome(status=RunStatus.SUCCESS))])
        assert tx.execute(text("SELECT count(*) FROM webhook_outbox")).scalar() == 1
        tx.rollback()

    assert outbox() == []
    assert one("SELECT status FROM run") == "running"


def test_finish__answer_was_lost(a_run, claim, finish, outbox) -> None:
    """Race 29: the same end twice is one webhook."""
    taken = claim(a_run(kwargs=KWARGS))

    assert finish(taken)
    assert finish(taken)

    assert len(outbox()) == 1


def test_finish__fenced(engine, a_run, claim, finish, outbox) -> None:
    first = claim(a_run(kwargs=KWARGS))
    sweep(engine, first.run_id, first.thread_id)
    claim(first.run_id)

    assert not finish(first)
    assert outbox() == []


def test_finish__by_the_writer(database_url, a_run, outbox) -> None:
    own = new_engine(database_url, pool_size=1)
    writer = Writer(own, cache=checkpoints.Cache())
    take = Take(run_id=a_run(kwargs=KWARGS), owner="w", lease_seconds=9)
    claim = writer.submit(take).result(10).run.claim

    writer.submit(Finish(claim=claim, outcome=Outcome(status=RunStatus.SUCCESS))).result(10)
    writer.close()
    own.dispose()

    assert [row[0] for row in outbox()] == [claim.run_id]


def test_rescue__given_up(engine, a_run, claim, outbox) -> None:
    run_id = a_run(kwargs=KWARGS)
    moves = []
    for n in range(3):
        taken = claim(run_id, ward=Ward.ALONE if n == 2 else Ward.OPEN)
        assert outbox() == []
        moves.append(sweep(engine, run_id, taken.thread_id))

    assert moves == ["pending", "pending", "error"]
    [(_, _, payload)] = outbox()
    assert payload["error"]["error"] == "WorkerLost"


def test_cancelled_before_its_start(engine, a_run, outbox) -> None:
    a_run(kwargs=KWARGS)

    with engine.begin() as tx:
        tx.execute(
            text(
                "UPDATE run SET status = 'interrupted', cancel_reason = 'why', "
                "ended_at = clock_timestamp()"
            )
        )

    [(_, _, payload)] = outbox()
    assert (payload["status"], payload["run_started_at"]) == ("interrupted", None)
    assert payload["cancel_reason"] == "why"


@pytest.mark.parametrize("ended_first", [True, False])
def test_rolled_back(engine, a_run, claim, finish, outbox, ended_first: bool) -> None:
    taken = claim(a_run(kwargs=KWARGS))
    with engine.begin() as tx:
        tx.execute(text("UPDATE run SET cancel_action = 'rollback'"))
    if ended_first:
        finish(taken, Outcome(status=RunStatus.INTERRUPTED))

    with engine.begin() as tx:
        tx.execute(text("DELETE FROM run"))

    [(run_id, _, payload)] = outbox()
    assert (run_id, payload["status"]) == (taken.run_id, "rollback")
    assert payload["run_ended_at"]


def test_deleted_with_its_thread(engine, a_run, claim, outbox) -> None:
    """Nobody asked for a rollback: there is nothing to tell."""
    claim(a_run(kwargs=KWARGS))

    with engine.begin() as tx:
        tx.execute(text("DELETE FROM thread"))

    assert outbox() == []


@pytest.fixture
def due(engine, a_run, claim, finish) -> Callable[[], None]:
    """Put one webhook into the outbox."""
    return lambda: finish(claim(a_run(kwargs=KWARGS)))


def take(engine: Engine, *, limit: int = 10, deadline: float = 30) -> list[webhooks.Delivery]:
    with engine.begin() as tx:
        return webhooks.take(tx, limit=limit, deadline_seconds=deadline)


def test_take__each_for_one_deliverer(engine, due) -> None:
    for _ in range(3):
        due()

    with engine.begin() as one, engine.begin() as other:
        first = webhooks.take(one, limit=2, deadline_seconds=30)
        second = webhooks.take(other, limit=10, deadline_seconds=30)

    assert (len(first), len(second)) == (2, 1)
    assert take(engine) == []
    assert len({each.run_id for each in first + second}) == 3


def test_take__the_deliverer_died(engine, due) -> None:
    due()
    [lost] = take(engine, deadline=-1)

    [again] = take(engine)

    assert (again.webhook_id, again.attempt) == (lost.webhook_id, 2)


def test_failed__and_tried_again(engine, due, one) -> None:
    due()
    [delivery] = take(engine)

    with engine.begin() as tx:
        webhooks.failed(tx, delivery, error="HTTP status 500", pause_seconds=0)

    assert one("SELECT last_error FROM webhook_outbox") == "HTTP status 500"
    assert [each.attempt for each in take(engine)] == [2]


def test_failed__waits(engine, due) -> None:
    due()
    [delivery] = take(engine)

    with engine.begin() as tx:
        webhooks.failed(tx, delivery, error="x", pause_seconds=60)

    assert take(engine) == []


def test_failed__given_up(engine, due, one) -> None:
    due()
    [delivery] = take(engine, deadline=-1)

    with engine.begin() as tx:
        webhooks.failed(tx, delivery, error="HTTP status 500", pause_seconds=None)

    assert take(engine) == []
    assert one("SELECT last_error FROM webhook_outbox WHERE given_up_at IS NOT NULL")


def test_failed__says_an_attempt_that_was_overtaken(engine, due, one) -> None:
    due()
    [frozen] = take(engine, deadline=-1)
    [latest] = take(engine)

    with engine.begin() as tx:
        webhooks.failed(tx, frozen, error="too late", pause_seconds=None)
    with engine.begin() as tx:
        webhooks.delivered(tx, latest)
        webhooks.failed(tx, latest, error="later still", pause_seconds=0)

    assert one("SELECT last_error FROM webhook_outbox") is None
    assert one("SELECT count(*) FROM webhook_outbox WHERE given_up_at IS NULL") == 1


def test_sweep(engine, due, one) -> None:
    for _ in range(3):
        due()
    first, second, _ = take(engine)
    with engine.begin() as tx:
        webhooks.delivered(tx, first)
        webhooks.failed(tx, second, error="x", pause_seconds=None)
        age = "now() - interval '8 days'"
        tx.execute(
            text(
                f"UPDATE webhook_outbox SET created_at = {age}, delivered_at = CASE WHEN delivered_at IS NULL THEN NULL ELSE {age} END, given_up_at = CASE WHEN given_up_at IS NULL THEN NULL ELSE {age} END"
            )
        )

    with engine.begin() as tx:
        assert webhooks.sweep(tx, limit=10) == 1

    assert one("SELECT count(*) FROM webhook_outbox") == 2
