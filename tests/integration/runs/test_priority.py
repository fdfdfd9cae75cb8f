"""Priorities: who is next in line, whatever the hints say, and that nobody waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from trellis.db import checkpoints, runs
from trellis.db.rounds import Locked, Round, Take
from trellis.domain.ids import new_id

Run = Callable[..., str]


@pytest.fixture
def line(engine: Engine) -> Callable[..., list[str]]:
    """Who is first in line when these are hinted."""

    def ask(*hinted: str, graphs: tuple[str, ...] = ("echo",)) -> list[str]:
        with engine.begin() as tx:
            return runs.foremost(tx, hinted, graph_ids=graphs)

    return ask


@pytest.fixture
def take(engine: Engine) -> Callable[..., list[str]]:
    """Claim as a process does that has these hints. Returns the runs it got."""

    def claim(*hinted: str, **fields: Any) -> list[str]:
        items = [
            Take(run_id=each, owner="w", lease_seconds=9, graph_ids=["echo"], **fields)
            for each in hinted
        ]
        with engine.begin() as tx:
            results = Round(tx, items, cache=checkpoints.Cache()).execute()
        return sorted(found.run.claim.run_id for item in items if (found := results[id(item)]))

    return claim


@pytest.fixture
def age(engine: Engine) -> Callable[[str, float], None]:
    """Let a run have waited."""

    def age(run_id: str, minutes: float) -> None:
        with engine.begin() as tx:
            tx.execute(
                text(
                    "UPDATE run SET run_after = run_after - :m * interval '1 minute',"
                    " rank_at = rank_at - :m * interval '1 minute' WHERE run_id = :r"
                ),
                {"r": run_id, "m": minutes},
            )

    return age


def test_foremost(a_run: Run, line: Callable[..., list[str]]) -> None:
    last, none, first = (a_run(priority=priority) for priority in (5, 0, -5))

    assert line(last, none, first) == [first, none, last]
    assert line(last) == [first]
    assert line(last, none) == [first, none]


def test_foremost__those_of_one_priority_in_their_order(
    a_run: Run, line: Callable[..., list[str]]
) -> None:
    in_order = [a_run(priority=-1) for _ in range(3)]

    assert line(*in_order[::-1]) == in_order


def test_foremost__whoever_has_waited_long_is_not_overtaken(
    a_run: Run, age: Callable[[str, float], None], line: Callable[..., list[str]]
) -> None:
    """Five minutes for each step: that is what keeps a low priority from starving."""
    last, first = a_run(priority=5), a_run(priority=-5)

    age(last, 49)
    assert line(last) == [first]
    age(last, 2)
    assert line(first) == [last]


def test_foremost__threads_stay_in_order(
    a_thread: Callable[[], str], a_run: Run, line: Callable[..., list[str]], claim: Any
) -> None:
    thread_id = a_thread()
    head, behind = a_run(thread_id), a_run(thread_id, priority=-5)
    other = a_run(priority=0)

    # Its head has no rank: it waits for its own hint.
    assert line(behind, other) == [behind, other]
    assert line(other) == [other]
    assert claim(behind).run_id == head


def test_foremost__what_cannot_start(
    engine: Engine, a_thread: Callable[[], str], a_run: Run, claim: Any, line: Any
) -> None:
    busy = a_thread()
    claim(a_run(busy, priority=-5))
    a_run(busy, priority=-5)
    a_run(priority=-5, after_seconds=60)
    a_run(priority=-5, graph_id="another")
    suspect = a_run(priority=-5)
    with engine.begin() as tx:
        tx.execute(
            text("UPDATE run SET trial_seconds = 1 WHERE run_id = :r RETURNING 1"), {"r": suspect}
        )
    ready = a_run(priority=5)

    assert line(ready, suspect) == [ready]


def test_foremost__hinted_runs_without_priority_count_as_0(
    a_run: Run, line: Callable[..., list[str]]
) -> None:
    early, late, none = a_run(priority=-1), a_run(priority=1), a_run()

    assert line(none, new_id(), new_id()) == [early, none, late]


def test_take__the_first_in_line(a_run: Run, take: Callable[..., list[str]]) -> None:
    low, high = a_run(priority=1), a_run(priority=-1)

    assert take(low) == [high]
    # The other's hint is now for the one whose hint it took.
    assert take(high) == [low]
    assert take(low) == []


def test_take__many(a_run: Run, take: Callable[..., list[str]]) -> None:
    low, high, middle = (a_run(priority=priority) for priority in (5, -5, 0))

    assert take(low, high) == sorted([high, middle])


def test_take__two_processes_take_different_ones(
    engine: Engine, a_run: Run, take: Callable[..., list[str]]
) -> None:
    low, high = a_run(priority=1), a_run(priority=-1)
    with engine.begin() as other:
        assert runs.foremost(other, [high], graph_ids=["echo"]) == [high]

        assert take(low) == [low]


def test_take__all_that_wait_are_being_taken(engine: Engine, a_run: Run) -> None:
    """The hint is offered again, for what other processes leave."""
    run_id = a_run(priority=1)
    item = Take(run_id=run_id, owner="w", lease_seconds=9, graph_ids=["echo"])
    with engine.begin() as other, engine.begin() as tx:
        assert runs.claim(other, {run_id: new_id()}, owner="o", lease_seconds=9)[0]
        results = Round(tx, [item], cache=checkpoints.Cache()).execute()

    assert isinstance(results[id(item)], Locked)


def test_take__the_commits_answer_is_lost(engine: Engine, a_run: Run) -> None:
    """Race 8, where the claimed run is not the hinted one."""
    low, high = a_run(priority=1), a_run(priority=-1)
    item = Take(run_id=low, owner="w", lease_seconds=9, graph_ids=["echo"])
    for _ in range(2):
        with engine.begin() as tx:
            results = Round(tx, [item], cache=checkpoints.Cache()).execute()
        assert results[id(item)].run.claim.run_id == high
        item.retried = True


def test_enqueue__the_first_priority_of_a_thread_stays(
    a_thread: Callable[[], str], a_run: Run, one: Any
) -> None:
    thread_id = a_thread()
    a_run(thread_id)
    a_run(thread_id, priority=-2)
    a_run(thread_id, priority=3)
    a_run(thread_id)

    ranks = "SELECT array_agg(priority ORDER BY seq) FROM run WHERE thread_id = :t"
    assert one(ranks, t=thread_id) == [0, -2, -2, -2]
    assert one("SELECT priority FROM thread") == -2
    steps = (
        "SELECT extract(epoch FROM rank_at - run_after)::int FROM run ORDER BY seq OFFSET 1 LIMIT 1"
    )
    assert one(steps) == -600


def test_enqueue__without_priorities_there_is_no_rank(a_run: Run, one: Any) -> None:
    a_run()

    assert one("SELECT count(*) FROM run WHERE rank_at IS NULL AND priority = 0") == 1
