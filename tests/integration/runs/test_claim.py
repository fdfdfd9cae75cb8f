"""Claims: one run of a thread at a time, in order, whatever the hints say."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from trellis.db import runs
from trellis.domain.ids import new_id


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
