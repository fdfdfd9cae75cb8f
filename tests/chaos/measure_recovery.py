"""How soon a run goes on after its worker process was killed, with and without a parent, and after SIGTERM.

    .venv/bin/python -m pytest tests/chaos/measure_recovery.py

TRIES=20 is the default; half as many where each takes a lease. A try holds one run in a node, takes its process
away, and waits until that node has begun again.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from acceptance.course import Held, hold
from acceptance.system import Process, System, running, wait_for
from acceptance.workers import children
from chaos.audit import VIOLATIONS, install, violations
from chaos.report import Report
from trellis.domain.runs import Ward

TRIES = int(os.environ.get("TRIES", "20"))

#: Soon, or a run that is held in a node would be waited for.
DRAIN = {"TRELLIS_DRAIN_SECONDS": "5"}
#: From the status that an attempt left behind to the next attempt's claim.
HAND_OVERS = """
    SELECT extract(epoch FROM taken - at)::float8
      FROM (SELECT old, new, at, lead(at) OVER (PARTITION BY run_id ORDER BY id) AS taken FROM audit) AS changes
     WHERE old = 'running' AND new = 'pending'
"""


@pytest.fixture
def system(
    new_database: Callable[[], str], new_redis: Callable[[], str], tmp_path: Path
) -> Iterator[System]:
    system = System(new_database(), new_redis(), tmp_path, env=DRAIN)
    install(system.database_url)
    with running(system):
        system.start_web()
        yield system


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as clients:
        yield clients


def holder(system: System, held: Held) -> psutil.Process:
    """The process that executes the run, once its first step is durable."""
    count = "SELECT count(*) FROM checkpoint WHERE thread_id = %s"
    wait_for(lambda: system.rows(count, held.thread_id) == [(3,)], what="a durable step")
    query = "SELECT lease_owner FROM run WHERE thread_id = %s AND status = 'running'"
    [(owner,)] = system.rows(query, held.thread_id)
    return psutil.Process(int(owner.split(":")[1]))


def seconds_to_go_on(
    system: System,
    clients: ThreadPoolExecutor,
    folder: Path,
    take_away: Callable[[psutil.Process], None],
) -> float:
    folder.mkdir()
    held = hold(system, clients, folder)
    process = holder(system, held)
    started = time.monotonic()
    take_away(process)
    held.course.wait_until_notes(">two", times=2)
    seconds = time.monotonic() - started
    held.course.open("two")
    assert held.client.result().status == 200
    return seconds


def until_complete(worker: Process, processes: int) -> None:
    """Return when every process takes runs: as many are ready as were ever started, less those that left."""

    def complete() -> bool:
        said = worker.said()
        quarantines = said.count("quarantine.begun") - len(
            children(worker, Ward.SHARED, Ward.ALONE)
        )
        gone = said.count("worker.died") + said.count("worker.draining") - quarantines
        ready = said.count("worker.ready") - gone
        return len(children(worker)) == processes == ready

    wait_for(complete, what="every process")


def told(name: str, seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    p99 = ordered[max(0, -(-99 * len(ordered) // 100) - 1)]
    return f"{name}: p50 {statistics.median(ordered):.2f} s, p99 {p99:.2f} s, {len(ordered)} tries"


def assert_intact(system: System) -> None:
    found = violations(system.database_url, [])
    assert found == dict.fromkeys(VIOLATIONS, 0)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("sign", "processes"),
    [(signal.SIGKILL, 2), (signal.SIGKILL, 1), (signal.SIGTERM, 2)],
    ids=["kill-2", "kill-1", "term-2"],
)
def test_a_process_is_lost(
    system: System,
    clients: ThreadPoolExecutor,
    tmp_path: Path,
    report: Report,
    sign: signal.Signals,
    processes: int,
) -> None:
    worker = system.start("worker", TRELLIS_WORKER_PROCESSES=str(processes))
    took = []
    for n in range(TRIES):
        until_complete(worker, processes)
        folder = tmp_path / f"try-{n}"
        took.append(
            seconds_to_go_on(system, clients, folder, lambda process: process.send_signal(sign))
        )
    assert_intact(system)
    report.figure(told(f"{sign.name} of one of {processes} processes -> its run goes on", took))
    if sign == signal.SIGTERM:
        gaps = [float(gap) for (gap,) in system.rows(HAND_OVERS)]
        assert len(gaps) >= TRIES
        report.figure(told("SIGTERM: handed back -> claimed again", gaps))


@pytest.mark.timeout(1800)
def test_a_worker_is_lost_with_its_parent(
    system: System, clients: ThreadPoolExecutor, tmp_path: Path, report: Report
) -> None:
    workers = [system.start_worker() for _ in range(2)]

    def kill(process: psutil.Process) -> None:
        parent = process.ppid()
        [victim] = [worker for worker in workers if worker.popen.pid == parent]
        victim.kill()
        workers.remove(victim)

    took = []
    for n in range(-(-TRIES // 2)):
        took.append(seconds_to_go_on(system, clients, tmp_path / f"try-{n}", kill))
        workers.append(system.start_worker())
    assert_intact(system)
    report.figure(told("SIGKILL of a worker and its parent -> its run goes on", took))
