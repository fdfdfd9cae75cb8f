"""Two attempts at one run in one process: a worker that lost a lease may be the one that claims the run again."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from trellis.db import checkpoints
from trellis.db.rounds import Finish, Item, Round, Write
from trellis.domain.runs import Claim, Lease, Outcome, RunStatus
from trellis.errors import Fenced
from trellis_workers.lease import Keeper

SUCCESS, ERROR = Outcome(status=RunStatus.SUCCESS), Outcome(status=RunStatus.ERROR)


@pytest.fixture
def attempts(engine: Engine, a_run, claim) -> tuple[Claim, Claim]:
    """The zombie, and the one that counts."""
    old = claim(a_run())
    with engine.begin() as tx:
        tx.execute(text("UPDATE run SET status = 'pending', lease_expires_at = NULL"))
    return old, claim(old.run_id)


def write(claim: Claim) -> Write:
    row = checkpoints.CheckpointRow(
        claim.thread_id, "", str(claim.fence), None, claim.run_id, claim.fence, b"\x00", "{}"
    )
    return Write(claim=claim, rows=checkpoints.Rows(checkpoints=[row]))


def round_of(engine: Engine, *items: Item) -> list[bool]:
    """Which of the items counted."""
    with engine.begin() as tx:
        results = Round(tx, items, cache=checkpoints.Cache()).execute()
    return [not isinstance(results[id(item)], Fenced) for item in items]


@pytest.mark.parametrize("zombie_first", [True, False])
def test_round__writes_of_both(engine, attempts, one, zombie_first: bool) -> None:
    old, new = attempts
    items = [write(old), write(new)] if zombie_first else [write(new), write(old)]

    counted = round_of(engine, *items)

    assert counted == [item.claim is new for item in items]
    assert one("SELECT string_agg(fence::text, ',') FROM checkpoint") == str(new.fence)


def test_round__a_write_of_the_old_beside_the_end_of_the_new(engine, attempts, one) -> None:
    old, new = attempts

    counted = round_of(engine, write(old), write(new), Finish(claim=new, outcome=SUCCESS))

    assert counted == [False, True, True]
    assert one("SELECT string_agg(fence::text, ',') FROM checkpoint") == str(new.fence)


@pytest.mark.parametrize("zombie_first", [True, False])
def test_round__ends_of_both(engine, attempts, one, zombie_first: bool) -> None:
    old, new = attempts
    items = [Finish(claim=old, outcome=ERROR), Finish(claim=new, outcome=SUCCESS)]
    items = items if zombie_first else items[::-1]

    counted = round_of(engine, *items)

    assert counted == [item.claim is new for item in items]
    assert one("SELECT status FROM run") == "success"
    assert one("SELECT status FROM thread") == "idle"


@pytest.mark.parametrize("is_ours", [True, False])
def test_round__the_run_has_ended_before_as_this_attempt_would_end_it(
    engine, a_run, claim, one, is_ours: bool
) -> None:
    """By this attempt, and the answer was lost; or by a sweep, after which the thread belongs to others."""
    old = claim(a_run())
    items = [write(old), Finish(claim=old, outcome=ERROR)]
    if is_ours:
        round_of(engine, *items)
    else:
        with engine.begin() as tx:
            tx.execute(
                text("UPDATE run SET status = 'error', lease_expires_at = NULL, ended_at = now()")
            )

    assert round_of(engine, *items) == [True, True]

    assert one("SELECT count(*) FROM checkpoint") == int(is_ours)


def test_keeper__the_older_has_lost(engine, attempts) -> None:
    old, new = attempts
    lost = {old.fence: threading.Event(), new.fence: threading.Event()}
    second = timedelta(seconds=1)
    keeper = Keeper(engine, Lease(duration=9 * second, renew_every=second / 50, margin=second))
    for claim in (new, old):
        now = time.monotonic()
        keeper.hold(claim, since=now, lose=lost[claim.fence].set, end=lambda action: None)

    assert lost[old.fence].wait(5)
    keeper.close()

    assert not lost[new.fence].is_set()
