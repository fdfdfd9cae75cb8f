"""The parent of the workers: what it restarts, replaces and passes on, with real processes and real signals."""

import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from acceptance.course import Course, Held, hold
from acceptance.system import Process, System, wait_for
from acceptance.workers import ALL, assert_all_succeed, children, crashes, holder, start_workers
from trellis_workers.threads import SPARE

#: A lease takes 15 s to run out: who goes on sooner has not waited for it.
SOON_SECONDS = 10.0

PENDING = "SELECT run_id::text FROM run WHERE run_id = ANY(%s::uuid[]) AND status = 'pending'"

#: What it costs to have a parent, in bytes.
PARENT_BYTES = 45 << 20


def until_durable(crew: System, thread_id: str) -> None:
    """Return when the first step's result is in the database: input, start, step."""
    count = "SELECT count(*) FROM checkpoint WHERE thread_id = %s"
    wait_for(lambda: crew.rows(count, thread_id) == [(3,)], what="the first step's checkpoint")


def finish(held: Held) -> None:
    """Let a held run go on, which has begun its second step twice, and look at its course."""
    held.course.open("two")
    assert held.client.result().json()["log"] == ALL
    assert [held.count(f">{step}") for step in ALL] == [1, 2, 1]


def kill_a_child(
    crew: System,
    worker: Process,
    clients: ThreadPoolExecutor,
    folder: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Its runs go on soon, and another child takes its place."""
    processes = len(children(worker))
    held = hold(crew, clients, folder)
    until_durable(crew, held.thread_id)
    assert psutil.Process(worker.popen.pid).memory_info().rss < PARENT_BYTES

    os.kill(holder(crew, held.thread_id), signal.SIGSEGV)
    killed_at = time.monotonic()
    held.course.wait_until_notes(">two", times=2)
    record_property("seconds", round(time.monotonic() - killed_at, 2))

    # Not its lease: that takes 15 s to run out.
    wait_for(lambda: "leases.expired" in worker.said(), what="the parent's word on the leases")
    assert re.findall(r"leases.expired .*runs=(\d+)", worker.said()) == ["1"]
    finish(held)
    assert crashes(crew, held.thread_id) == 1
    wait_for(lambda: len(children(worker)) == processes, what="the replacement")
    assert "worker.died" in worker.said()
    assert "Fatal Python error: Segmentation fault" in worker.said()


def ask_a_child_to_leave(
    crew: System, worker: Process, clients: ThreadPoolExecutor, folder: Path
) -> None:
    """It is replaced before it has gone, and its run ends there."""
    ready = worker.said().count("worker.ready")
    held = hold(crew, clients, folder)
    leaving = psutil.Process(holder(crew, held.thread_id))

    leaving.send_signal(signal.SIGTERM)
    worker.wait_until(
        lambda: worker.said().count("worker.ready") == ready + 1, what="with a new process"
    )
    held.course.open("two")

    assert held.client.result().json()["log"] == ALL
    assert [held.count(f">{step}") for step in ALL] == [1, 1, 1]
    leaving.wait(timeout=20)
    assert [child.pid for child in children(worker)] != [leaving.pid]
    assert crashes(crew, held.thread_id) == 0


def lose_a_hint(crew: System, child: psutil.Process, ids: list[str]) -> str | None:
    """Freeze a process. Returns the run whose hint it took; None if it took none, and may go on."""
    child.suspend()
    made = [run_leaky(crew, megabytes=0) for _ in range(8)]
    ids += made
    wait_for(lambda: len(crew.rows(PENDING, made)) <= 1, what="the runs that the sibling heard of")
    # The processes take hints in turn, and the sibling has taken all that came later.
    left = [run_id for (run_id,) in crew.rows(PENDING, made[:2])]
    if not left:
        child.resume()
    return left[0] if left else None


def kill_a_child_that_has_heard_of_a_run(crew: System, worker: Process) -> None:
    """Its sibling hears of runs all the time, and would count the lost hint as on its way for 10 s."""
    frozen = children(worker)[0]
    ids: list[str] = []
    lost = wait_for(lambda: lose_a_hint(crew, frozen, ids), what="a hint in the frozen process")

    frozen.kill()
    while crew.rows(PENDING, [lost]):
        ids.append(run_leaky(crew, megabytes=0))

    assert_all_succeed(crew, ids)
    took = "SELECT extract(epoch FROM ended_at - created_at)::float8 FROM run WHERE run_id = %s"
    [(seconds,)] = crew.rows(took, lost)
    assert seconds < SOON_SECONDS


def kill_the_parent(
    crew: System, victim: Process, clients: ThreadPoolExecutor, folder: Path
) -> None:
    """It leaves nothing behind."""
    held = hold(crew, clients, folder)
    until_durable(crew, held.thread_id)
    orphans = children(victim)

    victim.popen.kill()

    _, alive = psutil.wait_procs(orphans, timeout=10)
    assert alive == []
    crew.end_leases()
    crew.start_worker()
    held.course.wait_until_notes(">two", times=2)
    finish(held)


def until_ready(worker: Process, times: int) -> None:
    """Return when so many children have become ready, those that are gone included."""
    worker.wait_until(lambda: worker.said().count("worker.ready") == times, what="ready again")


@pytest.mark.timeout(240)
def test_one_child__is_killed__and_the_next_one_asked_to_leave(
    crew: System,
    clients: ThreadPoolExecutor,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    worker = start_workers(crew, 1)

    kill_a_child(crew, worker, clients, tmp_path, record_property)
    until_ready(worker, 2)
    (second := tmp_path / "second").mkdir()
    ask_a_child_to_leave(crew, worker, clients, second)


@pytest.mark.timeout(240)
def test_two_children__one_is_killed__then_one_that_heard_of_a_run__then_their_parent(
    crew: System,
    clients: ThreadPoolExecutor,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    worker = start_workers(crew, 2)

    kill_a_child(crew, worker, clients, tmp_path, record_property)
    until_ready(worker, 3)
    kill_a_child_that_has_heard_of_a_run(crew, worker)
    until_ready(worker, 4)
    (second := tmp_path / "second").mkdir()
    kill_the_parent(crew, worker, clients, second)


@pytest.mark.timeout(240)
def test_a_child_that_freezes_while_it_leaves__is_killed_in_the_end(
    crew: System, clients: ThreadPoolExecutor, tmp_path: Path
) -> None:
    # It waits for its run until 5 s before the end, so it is still there when it is frozen.
    worker = start_workers(crew, 1, TRELLIS_DRAIN_SECONDS="12")
    held = hold(crew, clients, tmp_path)
    until_durable(crew, held.thread_id)
    leaving = psutil.Process(holder(crew, held.thread_id))
    leaving.send_signal(signal.SIGTERM)
    worker.wait_until_says("worker.draining")

    leaving.suspend()

    leaving.wait(timeout=40)
    held.course.wait_until_notes(">two", times=2)
    finish(held)


def test_a_child_that_grows__is_replaced_while_runs_go_on(crew: System) -> None:
    worker = start_workers(crew, 1, TRELLIS_WORKER_MAX_MEMORY_MB="300")
    [first] = children(worker)
    assert first.memory_info().rss < 300 << 20

    ids = [run_leaky(crew, megabytes=20) for _ in range(15)]
    worker.wait_until_says("worker.recycled")
    ids += [run_leaky(crew, megabytes=0) for _ in range(15)]
    first.wait(timeout=40)

    assert_all_succeed(crew, ids)
    [second] = children(worker)
    assert second.memory_info().rss < 300 << 20


def test_a_child_whose_threads_are_stuck__is_replaced(crew: System, tmp_path: Path) -> None:
    """Nodes that no cancel reaches: their runs are over, and those that come find threads."""
    worker = start_workers(crew, 1)
    [stuck] = children(worker)
    course = Course(tmp_path)
    for _ in range(SPARE):
        body = {"assistant_id": "blocking", "input": course.input()}
        crew.post(f"/threads/{crew.new_thread()}/runs", body)
    course.wait_until_notes(">block", times=SPARE)

    crew.request("POST", "/runs/cancel", {"status": "running"})

    worker.wait_until_says("worker.recycled")
    stuck.wait(timeout=60)
    assert "worker.died" not in worker.said()
    course.open("block")
    assert_all_succeed(crew, [run_leaky(crew, megabytes=0)])


def test_a_child_that_has_done_its_share__is_replaced(crew: System) -> None:
    worker = start_workers(crew, 1, TRELLIS_WORKER_MAX_RUNS="5")

    ids = [run_leaky(crew, megabytes=0) for _ in range(8)]

    assert_all_succeed(crew, ids)
    worker.wait_until(lambda: worker.said().count("worker.ready") >= 2, what="with a new process")


def run_leaky(crew: System, *, megabytes: int) -> str:
    body = {"assistant_id": "leaky", "input": {"megabytes": megabytes}}
    run_id: str = crew.post("/runs", body)["run_id"]
    return run_id
