"""Runs are created on a thread that is busy, several at once, or while one of its runs ends."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from integration.runs.rows import RUN, THREAD, WHY
from trellis.db import cancel, runs
from trellis.domain.ids import new_id
from trellis.domain.multitask import decide
from trellis.domain.runs import RunStatus
from trellis.errors import Conflict


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
