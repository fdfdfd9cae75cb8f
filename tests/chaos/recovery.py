"""How soon a run goes on after kill -9 of its worker process, and after SIGTERM: p50 and p99 over some tries.

    .venv/bin/python -m pytest -s tests/chaos/recovery.py

TRIES=20 is the default. Each try holds one run in a node, takes its process away, and waits for the next attempt.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from acceptance.course import hold
from acceptance.system import Process, System, running, wait_for

TRIES = int(os.environ.get("TRIES", "20"))


def seconds_to_go_on(system: System, clients: ThreadPoolExecutor, folder: Path, sign: int) -> float:
    folder.mkdir()
    held = hold(system, clients, folder)
    [(owner,)] = system.rows(
        "SELECT lease_owner FROM run WHERE thread_id = %s AND status = 'running'", held.thread_id
    )
    os.kill(int(owner.split(":")[1]), sign)
    started = time.monotonic()
    held.course.wait_until_notes(">two", times=2)
    seconds = time.monotonic() - started
    held.course.open("two")
    assert held.client.result().status == 200
    return seconds


def until_complete(worker: Process, processes: int) -> None:
    """Return when every process takes runs: as many are ready as were ever started, less those that died."""

    def complete() -> bool:
        alive = psutil.Process(worker.popen.pid).children()
        started = worker.said().count("worker.ready")
        gone = worker.said().count("worker.died") + worker.said().count("worker.draining")
        return len(alive) == processes and started - gone == processes

    wait_for(complete, what="every process")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_recovery(
    new_database: Callable[[], str],
    new_redis: Callable[[], str],
    tmp_path: Path,
    processes: int,
    sign: signal.Signals,
) -> None:
    env = {"TRELLIS_WORKER_PROCESSES": str(processes), "TRELLIS_DRAIN_SECONDS": "5"}
    system = System(new_database(), new_redis(), tmp_path, env=env)
    with running(system), ThreadPoolExecutor() as clients:
        worker = system.start("worker")
        system.start_web()
        took = []
        for n in range(TRIES):
            until_complete(worker, processes)
            took.append(seconds_to_go_on(system, clients, tmp_path / str(n), sign))
    took.sort()
    p50, p99 = statistics.median(took), took[max(0, round(0.99 * len(took)) - 1)]
    print(
        f"\n{sign.name}, --processes {processes}: p50 {p50:.2f} s, p99 {p99:.2f} s, {TRIES} tries"
    )
