"""How a worker learns that the end of a run was asked for: by its heartbeat, which a signal hurries up."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from trellis.db import cancel
from trellis.db.engine import new_engine
from trellis.domain.multitask import Action
from trellis.domain.runs import Claim, Lease
from trellis_workers.lease import Keeper

#: So slow that nothing in a test is told by a heartbeat that was due anyway.
SLOW = Lease(duration=timedelta(seconds=120), renew_every=timedelta(seconds=60))
FAST = Lease(duration=timedelta(seconds=15), renew_every=timedelta(seconds=0.1))


@pytest.fixture
def keep(database_url: str) -> Iterator[Callable[[Lease], Keeper]]:
    keepers: list[Keeper] = []
    engine = new_engine(database_url, pool_size=2)

    def start(lease: Lease) -> Keeper:
        keepers.append(Keeper(engine, lease))
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.close()
    engine.dispose()


@pytest.fixture
def ask(engine: Engine) -> Callable[[Claim], None]:
    def stop(claim: Claim, action: Action = Action.INTERRUPT) -> None:
        with engine.begin() as tx:
            cancel.lock_thread(tx, "default", claim.thread_id)
            among = cancel.active(tx, claim.thread_id)
            cancel.stop(tx, claim.thread_id, among=among, action=action, reason="")

    return stop


class Told:
    """What a keeper said of a claim."""

    def __init__(self) -> None:
        self.said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def hold(self, keeper: Keeper, claim: Claim, *, seconds_ago: float = 0) -> None:
        since = time.monotonic() - seconds_ago
        keeper.hold(claim, since=since, lose=lambda: self.said.put("lost"), end=self.said.put)

    def next(self) -> str:
        return self.said.get(timeout=5)


def test_heartbeat(keep, a_run, claim, ask):
    keeper, taken, told = keep(FAST), claim(a_run()), Told()
    told.hold(keeper, taken)

    ask(taken, Action.ROLLBACK)

    assert told.next() == "rollback"


def test_hold__the_claim_is_old_already(keep, a_run, claim):
    """The loop was blocked between the commit and its answer; somebody else may have the run by now."""
    keeper, taken, told = keep(SLOW), claim(a_run()), Told()

    told.hold(keeper, taken, seconds_ago=SLOW.duration.total_seconds())

    assert told.next() == "lost"


def test_look(keep, a_run, claim, ask):
    keeper, taken, told = keep(SLOW), claim(a_run()), Told()
    told.hold(keeper, taken)
    ask(taken)

    keeper.look(taken.run_id)

    assert told.next() == "interrupt"


def test_look__before_the_answer_to_the_claim(keep, a_run, claim, ask):
    keeper, taken, told = keep(SLOW), claim(a_run()), Told()
    ask(taken)
    keeper.look(taken.run_id)

    told.hold(keeper, taken)

    assert told.next() == "interrupt"


def test_look__at_a_run_that_was_deleted(keep, engine, a_run, claim):
    keeper, taken, told = keep(SLOW), claim(a_run()), Told()
    told.hold(keeper, taken)
    with engine.begin() as tx:
        cancel.lock_thread(tx, "default", taken.thread_id)
        cancel.delete_run(tx, taken.thread_id, taken.run_id)

    keeper.look(taken.run_id)

    assert told.next() == "lost"
