"""Suspects: who becomes one, who may execute it, and when it is given up or acquitted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from trellis.db import cancel, runs
from trellis.db.owners import disown
from trellis.domain.runs import Claim, Ward

DIE = "UPDATE run SET lease_expires_at = clock_timestamp() WHERE lease_owner = :o"
TRIAL = "SELECT trial_seconds FROM run WHERE run_id = :r"


@pytest.fixture
def die(engine) -> Callable[..., list[str | None]]:
    """The end of a process: its leases end, and its runs are found one by one."""

    def end(owner: str, *claims: Claim) -> list[str | None]:
        with engine.begin() as tx:
            tx.execute(text(DIE), {"o": owner})
        return [rescue(claim) for claim in claims]

    def rescue(claim: Claim) -> str | None:
        with engine.begin() as tx:
            return runs.rescue(tx, claim.run_id, claim.thread_id, backoff_seconds=0)

    return end


@pytest.fixture
def suspects(claim, die) -> Callable[..., list[Claim]]:
    """Claims of runs that were together in two processes that died."""

    def make(*run_ids: str) -> list[Claim]:
        for owner in ("first", "second"):
            claims = [claim(run_id, owner=owner) for run_id in run_ids]
            die(owner, *claims)
        return claims

    return make


def next_suspect(engine, ward: Ward = Ward.ALONE) -> str | None:
    with engine.begin() as tx:
        found = runs.suspects(tx, ward)
    return found[0].run_id if found else None


def test_suspect__after_the_death_of_its_process(
    engine, database_url, a_run, claim, die, suspects, one
):
    """Apart from those that it has not met, and from those that must be alone."""
    first = claim(a_run(), owner="w")

    assert disown(database_url, "w") == 1
    assert die("w", first) == ["pending"]

    assert one(TRIAL, r=first.run_id) == 0
    with engine.begin() as tx:
        assert runs.due(tx, limit=9, hint_ttl_seconds=0) == []
    assert next_suspect(engine) is None
    assert next_suspect(engine, Ward.SHARED) == first.run_id
    assert [claim(first.run_id), claim(first.run_id, ward=Ward.ALONE)] == [None, None]
    assert claim(first.run_id, ward=Ward.SHARED).attempt == 2


def test_suspect__that_nobody_executes(engine, a_run, claim, die, suspects):
    """Other parents start a quarantine for it only when its own has not."""
    [last] = suspects(a_run())

    with engine.begin() as tx:
        assert runs.suspects(tx, Ward.ALONE, overdue_seconds=60) == []
        tx.execute(text("UPDATE run SET run_after = run_after - interval '61 s'"))
    with engine.begin() as tx:
        [found] = runs.suspects(tx, Ward.ALONE, overdue_seconds=60)
    assert found.run_id == last.run_id


def test_suspect__not_after_one_lease_that_ran_out(engine, a_run, claim, die, one):
    """A machine was away, or the database was: there may be nothing wrong with any process."""
    first = claim(a_run(), owner="w")

    assert die("w", first) == ["pending"]

    assert one(TRIAL, r=first.run_id) is None
    assert [next_suspect(engine, ward) for ward in Ward] == [None, None, None]
    assert claim(first.run_id).attempt == 2


def test_suspect__after_two_crashes(engine, a_run, claim, suspects, one):
    [last] = suspects(a_run())

    assert one(TRIAL, r=last.run_id) >= 0.5
    assert claim(last.run_id) is None
    with engine.begin() as tx:
        assert runs.due(tx, limit=9, hint_ttl_seconds=0) == []
    assert next_suspect(engine) == last.run_id
    assert claim(last.run_id, ward=Ward.ALONE).attempt == 3


def test_claim__a_quarantine_takes_nothing_else(a_run, claim):
    assert claim(a_run(), ward=Ward.ALONE) is None


def test_rescue__the_trial_is_longer_than_it_took_to_die(engine, a_run, claim, die, one):
    run_id = a_run()
    for owner in ("first", "second"):
        last = claim(run_id, owner=owner)
        with engine.begin() as tx:
            tx.execute(text("UPDATE run SET updated_at = updated_at - interval '4 s'"))
        die(owner, last)

    assert 6.5 <= one(TRIAL, r=run_id) < 15


def test_rescue__given_up_alone(a_run, claim, die, suspects, one):
    [last] = suspects(a_run())

    third = claim(last.run_id, owner="q", ward=Ward.ALONE)

    assert die("q", third) == ["error"]
    assert one("SELECT attempts FROM dead_letter") == 3


@pytest.mark.parametrize("budget", [1, 2, 4])
def test_rescue__given_up_when_its_budget_is_used_up(a_run, claim, die, one, budget):
    """One retry fewer than crashes: a run that is alone in its process every time."""
    run_id = a_run(max_crashes=budget)
    wards = [Ward.OPEN] * (budget - 1) + [Ward.ALONE if budget > 1 else Ward.OPEN]

    ends = [die(f"w{n}", claim(run_id, owner=f"w{n}", ward=ward)) for n, ward in enumerate(wards)]

    assert ends == [["pending"]] * (budget - 1) + [["error"]]
    assert one("SELECT attempts FROM dead_letter") == budget


def test_rescue__without_retries_the_other_of_the_process_is_acquitted(a_run, claim, die):
    """A run that died beside another is tried once more, alone: it may not have been the one."""
    guilty, other = a_run(max_crashes=1), a_run(max_crashes=1)
    claims = [claim(each, owner="w") for each in (guilty, other)]
    assert die("w", *claims) == ["pending", "pending"]

    assert die("q", claim(guilty, owner="q", ward=Ward.ALONE)) == ["error"]

    assert claim(other).attempt == 2


@pytest.mark.parametrize("first", [0, 1])
def test_rescue__never_given_up_for_a_death_that_another_run_shared(
    a_run, claim, die, suspects, first, one
):
    claims = suspects(a_run(), a_run())
    again = [claim(each.run_id, owner="q", ward=Ward.ALONE) for each in claims]

    assert die("q", again[first], again[1 - first]) == ["pending", "pending"]
    assert one("SELECT count(*) FROM run WHERE trial_seconds IS NOT NULL") == 2


def test_rescue__not_given_up_when_the_other_was_cancelled(
    engine, a_run, claim, die, suspects, one
):
    one_of_them, other = suspects(a_run(), a_run())
    mine = claim(one_of_them.run_id, owner="q", ward=Ward.ALONE)
    theirs = claim(other.run_id, owner="q", ward=Ward.ALONE)
    wish = (
        "UPDATE run SET cancel_action = 'interrupt', cancel_requested_at = now() WHERE run_id = :r"
    )
    with engine.begin() as tx:
        tx.execute(text(wish), {"r": theirs.run_id})
        tx.execute(text(DIE), {"o": "q"})
    with engine.begin() as tx:
        assert cancel.end_overdue(tx, theirs.run_id, theirs.thread_id, patience_seconds=60)

    assert die("q", mine) == ["pending"]


def test_acquit(engine, a_run, claim, die, suspects, one):
    """The others go on among the rest as soon as the one is found."""
    guilty, *others = suspects(*[a_run() for _ in range(3)])
    last = claim(guilty.run_id, owner="q", ward=Ward.ALONE)

    assert die("q", last) == ["error"]

    assert next_suspect(engine) is None
    assert all(claim(other.run_id) for other in others)


def test_acquit__only_once(engine, a_run, claim, die, suspects):
    """Where two are guilty the second is found among all that are left, one by one."""
    first, second, innocent = suspects(*[a_run() for _ in range(3)])
    die("q", claim(first.run_id, owner="q", ward=Ward.ALONE))
    third = [claim(each.run_id, owner="third") for each in (second, innocent)]
    assert die("third", *third) == ["pending", "pending"]

    assert die("r", claim(second.run_id, owner="r", ward=Ward.ALONE)) == ["error"]

    assert next_suspect(engine) == innocent.run_id


def test_suspect__the_newest_is_tried_first(engine, a_run, suspects):
    claims = suspects(*[a_run() for _ in range(3)])

    assert next_suspect(engine) == claims[-1].run_id


def test_suspect__then_the_one_that_came_last_into_the_quarantine_that_died(
    engine, a_run, claim, die, suspects
):
    """It lived for the shortest time, whatever is newer: so the guilty one is alone in the end."""
    guilty, newer = suspects(a_run(), a_run())
    long = claim(newer.run_id, owner="q", ward=Ward.ALONE)
    with engine.begin() as tx:
        tx.execute(text("UPDATE run SET updated_at = updated_at - interval '9 s'"))
    short = claim(guilty.run_id, owner="q", ward=Ward.ALONE)

    die("q", long, short)

    assert next_suspect(engine) == guilty.run_id
