"""All workers replaced while 1 000 runs go on; and how many runs a second are done without Redis.

.venv/bin/python -m pytest tests/chaos/measure_deploy.py
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from acceptance.course import Course
from acceptance.system import System, running, wait_for
from chaos.audit import VIOLATIONS, install, violations
from chaos.customers import STEPS
from chaos.report import Report
from chaos.stores import Redis

#: Of a rolling restart.
ROLLED = int(os.environ.get("ROLLED", "1000"))
#: Of each round with Redis, and without.
BATCH = 1000
ROUNDS = 3

UNDONE = "SELECT count(*) FROM run WHERE status <> 'success'"


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as clients:
        yield clients


def all_succeed(system: System) -> None:
    wait_for(lambda: system.rows(UNDONE) == [(0,)], seconds=120, what="success of every run")


@pytest.mark.timeout(900)
def test_rolling_restart(
    new_database: Callable[[], str],
    new_redis: Callable[[], str],
    clients: ThreadPoolExecutor,
    tmp_path: Path,
    report: Report,
) -> None:
    system, course = System(new_database(), new_redis(), tmp_path), Course(tmp_path)
    install(system.database_url)

    def create(n: int) -> str:
        body = {"assistant_id": "steps", "input": course.input(name=str(n), pause=0.2)}
        run_id: str = system.post("/runs", body)["run_id"]
        return run_id

    with running(system):
        system.start_web()
        workers = [system.start_worker() for _ in range(2)]
        creating, replaced = [], 0
        while len(creating) < ROLLED or replaced < len(workers):
            # While a worker drains and its successor starts, runs go on and come in.
            creating += [clients.submit(create, n) for n in _next(len(creating), 150)]
            worker = workers[replaced % len(workers)]
            worker.terminate()
            assert worker.ends(seconds=40) == 0
            workers[replaced % len(workers)] = system.start_worker()
            replaced += 1
        run_ids = [created.result() for created in creating]
        all_succeed(system)
        found = violations(system.database_url, run_ids)
        steps = Counter(course.journal())

    assert found == dict.fromkeys(VIOLATIONS, 0)
    assert steps == Counter(
        f"{n}{sign}{step}" for n in range(ROLLED) for sign in "<>" for step in STEPS
    )
    report.figure(
        f"rolling restart: {replaced} workers replaced during {len(run_ids)} runs:"
        " failed 0, steps run twice 0"
    )


def _next(first: int, count: int) -> range:
    return range(first, min(first + count, ROLLED))


@pytest.mark.timeout(600)
def test_throughput_without_redis(
    new_database: Callable[[], str],
    server_folder: Path,
    clients: ThreadPoolExecutor,
    tmp_path: Path,
    report: Report,
) -> None:
    with closing(Redis(server_folder / "redis-off")) as redis:
        system = System(new_database(), redis.url, tmp_path)
        with running(system):
            system.start_web()
            system.start_worker()
            runs_per_second(system, clients)
            rates: dict[bool, list[float]] = {True: [], False: []}
            for has_redis in [True, False] * ROUNDS:
                with nullcontext() if has_redis else redis.restarted():
                    rates[has_redis].append(runs_per_second(system, clients))
    with_redis, without = (statistics.median(rates[has]) for has in (True, False))
    report.figure(
        f"background runs with Redis {with_redis:.0f}/s, without {without:.0f}/s:"
        f" {without / with_redis:.0%}"
    )


def runs_per_second(system: System, clients: ThreadPoolExecutor) -> float:
    """Create a batch in the background, and return when all of it is done."""
    body = {"assistant_id": "compiled", "input": {"said": []}}
    started = time.monotonic()
    for created in [clients.submit(system.post, "/runs", body) for _ in range(BATCH)]:
        created.result()
    all_succeed(system)
    return BATCH / (time.monotonic() - started)
