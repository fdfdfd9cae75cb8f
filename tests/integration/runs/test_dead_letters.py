"""Dead letters: kept with the end of a run that failed, deleted with its thread or in time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from trellis.db import cancel, dead_letters
from trellis.domain.runs import Outcome, RunStatus, ThreadStatus

ERROR = Outcome(
    status=RunStatus.ERROR,
    thread_status=ThreadStatus.ERROR,
    error={"error": "ValueError", "message": "boom"},
    traceback="Traceback …",
)
COUNT = "SELECT count(*) FROM dead_letter"


def test_finish__keeps_what_failed(engine, a_run, claim, finish):
    taken = claim(a_run(kwargs={"input": 7, "config": {"tags": ["t"]}}))

    finish(taken, ERROR)

    with engine.connect() as tx:
        letter = tx.execute(text("SELECT * FROM dead_letter")).mappings().one()
        run = tx.execute(text("SELECT assistant_id, error, attempt FROM run")).one()
    assert letter["kwargs"] == {"input": 7, "config": {"tags": ["t"]}}
    assert (letter["reason"], letter["traceback"]) == (dead_letters.RAISED, "Traceback …")
    assert (letter["assistant_id"], letter["last_error"], letter["attempts"]) == tuple(run)


@pytest.mark.parametrize("status", [RunStatus.SUCCESS, RunStatus.TIMEOUT])
def test_finish__keeps_nothing_else(a_run, claim, finish, one, status):
    finish(claim(a_run()), replace(ERROR, status=status, error=None))

    assert one(COUNT) == 0


def test_finish__cancelled_while_it_failed(engine, a_run, claim, finish, one):
    taken = claim(a_run())
    with engine.begin() as tx:
        tx.execute(text("UPDATE run SET cancel_action = 'interrupt', cancel_requested_at = now()"))

    finish(taken, ERROR)

    assert one(COUNT) == 0


def test_delete_thread(engine, a_run, claim, finish, one):
    taken, other = claim(a_run()), claim(a_run())
    for each in (taken, other):
        finish(each, ERROR)

    with engine.begin() as tx:
        cancel.delete_threads(tx, [taken.thread_id])

    assert one("SELECT run_id::text FROM dead_letter") == other.run_id


def test_delete_run(engine, a_thread, a_run, claim, finish, one):
    thread_id = a_thread()
    taken = claim(a_run(thread_id))
    finish(taken, ERROR)
    other = claim(a_run(thread_id))
    finish(other, ERROR)

    with engine.begin() as tx:
        cancel.delete_run(tx, thread_id, taken.run_id)

    assert one("SELECT run_id::text FROM dead_letter") == other.run_id


def test_sweep(engine, a_run, claim, finish, one):
    for _ in range(2):
        finish(claim(a_run()), ERROR)
    with engine.begin() as tx:
        tx.execute(
            text(
                "UPDATE dead_letter SET created_at = now() - interval '31 days'"
                " WHERE run_id = (SELECT min(run_id::text)::uuid FROM dead_letter)"
            )
        )

    with engine.begin() as tx:
        assert dead_letters.sweep(tx, limit=10) == 1

    assert one(COUNT) == 1
