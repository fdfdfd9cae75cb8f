"""Claims: one run of a thread at a time, in order, whatever the hints say."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from trellis.db import checkpoints, runs
from trellis.db.rounds import Round, Take
from trellis.domain.ids import new_id

LOCK = """
SELECT 1 FROM thread WHERE thread_id = (SELECT thread_id FROM run WHERE run_id = :r) FOR UPDATE
"""


def test_claim(a_run, claim, one):
    run_id = a_run()

    taken = claim(run_id)

    assert (taken.run_id, taken.fence, taken.attempt) == (run_id, 1, 1)
    assert one("SELECT status FROM run WHERE run_id = :r", r=run_id) == "running"
    assert one("SELECT fence FROM thread WHERE thread_id = :t", t=taken.thread_id) == 1


def test_claim__duplicate_hint(a_run, claim):
    run_id = a_run()
    claim(run_id)

    assert claim(run_id) is None


def test_claim__reordered_hints_take_the_head_of_the_thread(a_thread, a_run, claim):
    thread_id = a_thread()
    first, second = a_run(thread_id), a_run(thread_id)

    assert claim(second).run_id == first


def test_claim__another_run_of_the_thread_is_running(a_thread, a_run, claim):
    thread_id = a_thread()
    first, second = a_run(thread_id), a_run(thread_id)
    claim(first)

    assert claim(second) is None


def test_claim__not_due_yet(a_run, claim):
    assert claim(a_run(after_seconds=60)) is None


def test_claim__a_crashed_run_in_its_backoff_keeps_its_place(engine, a_thread, a_run, claim):
    """Else the next run of the thread would start from the middle of it."""
    thread_id = a_thread()
    first, second = a_run(thread_id), a_run(thread_id)
    claim(first, lease=-1)
    with engine.begin() as tx:
        assert runs.rescue(tx, first, thread_id, backoff_seconds=60) == "pending"

    assert claim(second) is None


def test_claim__unknown_run(claim):
    assert claim(new_id()) is None


def test_claim__two_workers_and_two_runs_of_one_thread(engine, a_thread, a_run, one):
    """Races 6 and 7: whatever the interleaving, one claim wins."""
    for _ in range(20):
        thread_id = a_thread()
        hints = [a_run(thread_id), a_run(thread_id)]
        start = threading.Barrier(2)

        def work(run_id: str, start=start) -> int:
            start.wait()
            with engine.begin() as tx:
                return len(runs.claim(tx, {run_id: new_id()}, owner="w", lease_seconds=9)[0])

        with ThreadPoolExecutor(2) as pool:
            won = list(pool.map(work, hints))

        assert sum(won) == 1
        running = "SELECT count(*) FROM run WHERE thread_id = :t AND status = 'running'"
        assert one(running, t=thread_id) == 1


def test_claim__waits_for_nobody(engine, a_run):
    """A thread that somebody holds is skipped and reported, so that a round of claims never blocks."""
    run_id = a_run()
    with engine.begin() as holder:
        holder.exec_driver_sql("SELECT 1 FROM thread FOR UPDATE")
        with engine.begin() as tx:
            taken, locked = runs.claim(tx, {run_id: new_id()}, owner="w", lease_seconds=9)

    assert (taken, locked) == ([], True)


def test_claim__stale_hints_are_not_worth_another_try(engine, a_run, claim, finish):
    """Else each would keep a slot for half a second, and the database busy."""
    finish(claim(over := a_run()))
    claim(taken := a_run())
    hints = {run_id: new_id() for run_id in (over, taken, new_id())}

    with engine.begin() as tx:
        assert runs.claim(tx, hints, owner="w", lease_seconds=9) == ([], False)


def test_claim__stale_hints_beside_one_whose_thread_is_locked(engine, a_run, claim):
    claim(taken := a_run())
    free, waiting = a_run(), a_run()
    hints = {run_id: new_id() for run_id in (taken, free, waiting)}
    with engine.begin() as holder:
        holder.execute(text(LOCK), {"r": waiting})
        with engine.begin() as tx:
            claimed, locked = runs.claim(tx, hints, owner="w", lease_seconds=9)

    assert [each.claim.run_id for each in claimed] == [free]
    assert locked


def test_take__the_commits_answer_is_lost_and_the_round_is_repeated_singly(engine, a_run):
    """Race 8, where each thread has got the claim id of the other's hint."""
    low, high = a_run(new_thread="0" * 32), a_run(new_thread="f" * 32)
    items = [Take(run_id=each, owner="w", lease_seconds=9) for each in (high, low)]
    results = {}
    for some in (items, items[:1], items[1:]):
        with engine.begin() as tx:
            results = results | Round(tx, some, cache=checkpoints.Cache()).execute()
        for item in items:
            item.retried = True

    assert sorted(results[id(item)].run.claim.run_id for item in items) == sorted([low, high])


def test_claimed_before(engine, a_run):
    """Race 8: the commit of a claim succeeded, its answer was lost."""
    run_id, claim_id = a_run(), new_id()
    with engine.begin() as tx:
        taken, _ = runs.claim(tx, {run_id: claim_id}, owner="w", lease_seconds=9)

    with engine.begin() as tx:
        found = runs.claimed_before(tx, {run_id: claim_id})

    assert found[claim_id].claim == taken[0].claim


def test_due__heads_of_idle_threads_only(engine, a_thread, a_run, claim):
    busy, idle = a_thread(), a_thread()
    claim(a_run(busy))
    a_run(busy)
    head = a_run(idle)
    a_run(idle)
    a_run(after_seconds=60)

    with engine.begin() as tx:
        found = runs.due(tx, limit=10, hint_ttl_seconds=0)

    assert [run.run_id for run in found] == [head]


def test_due__told_lately(engine, a_run):
    a_run()

    with engine.begin() as tx:
        assert runs.due(tx, limit=10, hint_ttl_seconds=60) == []
