"""The process matrix: a worker process is killed, asked to leave or frozen while it does each thing it does.

`make test` runs one seed with few runs. `make chaos SEEDS=20 RUNS=10000` shuffles the matrix for each seed, freezes
at every stage, and keeps that many runs going on beside it.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg2
import pytest

from acceptance.course import Held, hold
from acceptance.system import System, running, wait_for
from chaos.audit import VIOLATIONS, install, violations
from trellis.dev.process import poll_until

SEEDS = int(os.environ.get("SEEDS", "1"))
RUNS = int(os.environ.get("RUNS", "60"))

ALL = ["one", "two", "three"]
STAGES = ("idle", "node", "put", "finish")
FAULTS = ("kill", "term", "stop")

#: Longer than a lease: others have taken over when the process goes on.
FROZEN_SECONDS = 20.0
#: Threads that runs beside the matrix share, so that they queue behind each other.
THREADS = 12


@dataclass
class Chaos:
    """A Trellis under faults, and what it has accepted."""

    system: System
    clients: ThreadPoolExecutor
    folder: Path
    accepted: list[str] = field(default_factory=list)
    cells: int = 0

    def processes(self) -> list[int]:
        """Those that execute runs."""
        workers = [it for it in self.system.processes if it.name.startswith("worker")]
        return [c.pid for it in workers for c in psutil.Process(it.popen.pid).children()]

    def holder(self, thread_id: str) -> int:
        """The process that executes the thread's run, once its first step is durable."""
        count = "SELECT count(*) FROM checkpoint WHERE thread_id = %s"
        wait_for(lambda: self.system.rows(count, thread_id) == [(3,)], what="a durable step")
        query = "SELECT lease_owner FROM run WHERE thread_id = %s AND status = 'running'"
        [(owner,)] = self.system.rows(query, thread_id)
        return int(owner.split(":")[1])

    def hold(self) -> Held:
        """A run that stands before its second step."""
        folder = self.folder / f"cell-{self.cells}"
        folder.mkdir()
        self.cells += 1
        return hold(self.system, self.clients, folder)

    @contextmanager
    def blocked(self, lock: str, *params: str) -> Iterator[Callable[[], bool]]:
        """Hold a lock that the worker needs; lends the question whether somebody waits for it."""
        with closing(psycopg2.connect(self.system.database_url)) as connection:
            connection.cursor().execute(lock, params)
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))"
            pid = connection.info.backend_pid
            yield lambda: bool(self.system.rows(waits, pid))


def faulted(pid: int, fault: str, wait: Callable[[], None]) -> None:
    """Kill a process, ask it to leave, or freeze it for longer than its lease."""
    if fault == "stop":
        os.kill(pid, signal.SIGSTOP)
        try:
            wait()
        finally:
            os.kill(pid, signal.SIGCONT)
    else:
        os.kill(pid, signal.SIGKILL if fault == "kill" else signal.SIGTERM)


def frozen() -> None:
    """Let a lease run out: nothing can be waited for, as nothing must happen."""
    threading.Event().wait(FROZEN_SECONDS)


def idle(chaos: Chaos, fault: str, pick: random.Random) -> None:
    faulted(pick.choice(chaos.processes()), fault, frozen)
    held = chaos.hold()
    held.course.open("two")
    end(held)


def node(chaos: Chaos, fault: str, _: random.Random) -> None:
    held = chaos.hold()
    faulted(chaos.holder(held.thread_id), fault, frozen)
    held.course.open("two")
    end(held)


def put(chaos: Chaos, fault: str, _: random.Random) -> None:
    held = chaos.hold()
    pid = chaos.holder(held.thread_id)
    with chaos.blocked("LOCK TABLE checkpoint IN EXCLUSIVE MODE") as is_waited_for:
        held.course.open("two")
        wait_for(is_waited_for, what="a writer at the lock")
        faulted(pid, fault, lambda: None)
    if fault == "stop":
        faulted(pid, fault, frozen)
    end(held)


def finish(chaos: Chaos, fault: str, _: random.Random) -> None:
    held = chaos.hold()
    pid = chaos.holder(held.thread_id)
    lock = "SELECT 1 FROM thread WHERE thread_id = %s FOR UPDATE"
    with chaos.blocked(lock, held.thread_id) as is_waited_for:
        held.course.open("two")
        wait_for(is_waited_for, what="a finish at the lock")
        faulted(pid, fault, lambda: None)
    if fault == "stop":
        faulted(pid, fault, frozen)
    end(held)


ACT = {"idle": idle, "node": node, "put": put, "finish": finish}


def end(held: Held) -> None:
    """The client has its answer, which is that of an undisturbed run."""
    answer = held.client.result()
    assert answer.status == 200, answer
    assert answer.json()["log"] == ALL
    assert held.count(">one") == 1


def matrix(pick: random.Random) -> list[tuple[str, str]]:
    """Every fault at every stage, in an order of the seed's; a short version freezes at one stage only."""
    cells = [(fault, stage) for fault in FAULTS for stage in STAGES if fault != "stop"]
    stages = STAGES if SEEDS > 1 else [pick.choice(STAGES)]
    cells += [("stop", stage) for stage in stages]
    pick.shuffle(cells)
    return cells


def keep_busy(chaos: Chaos, threads: list[str], stop: threading.Event) -> None:
    """Create the seed's share of runs, a few at a time, spread over the matrix."""
    pause = 20.0 / max(1, RUNS // SEEDS)
    for n in range(RUNS // SEEDS):
        path = f"/threads/{threads[n % THREADS]}/runs"
        body = {"assistant_id": "compiled", "input": {"said": []}}
        chaos.accepted.append(chaos.system.post(path, body)["run_id"])
        stop.wait(pause)


@pytest.fixture(params=range(SEEDS))
def seed(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def chaos(
    new_database: Callable[[], str], new_redis: Callable[[], str], tmp_path: Path
) -> Iterator[Chaos]:
    """One web; two workers, the first with two processes."""
    system = System(new_database(), new_redis(), tmp_path)
    install(system.database_url)
    with running(system), ThreadPoolExecutor() as clients:
        workers = [system.start("worker", TRELLIS_WORKER_PROCESSES=n) for n in ("2", "1")]
        system.start_web()
        for worker in workers:
            worker.wait_until_says("worker.ready")
        yield Chaos(system, clients, tmp_path)


@pytest.mark.timeout(900)
def test_every_fault_at_every_stage(
    chaos: Chaos, seed: int, record_property: Callable[[str, object], None]
) -> None:
    pick = random.Random(seed)
    threads = [chaos.system.new_thread() for _ in range(THREADS)]
    over = threading.Event()
    busy = chaos.clients.submit(keep_busy, chaos, threads, over)

    for fault, stage in matrix(pick):
        started = time.monotonic()
        ACT[stage](chaos, fault, pick)
        print(f"seed {seed}: {fault} in {stage}: ended after {time.monotonic() - started:.1f} s")
    over.set()
    busy.result()

    # Chaos.accepted holds those beside the matrix; those in it have answered.
    active = "SELECT count(*) FROM run WHERE status IN ('pending', 'running')"
    poll_until(lambda: chaos.system.rows(active) == [(0,)], seconds=60)
    found = violations(chaos.system.database_url, chaos.accepted)
    record_property("runs", len(chaos.accepted) + chaos.cells)
    print(f"seed {seed}: {len(chaos.accepted) + chaos.cells} runs, {found}")
    assert found == dict.fromkeys(VIOLATIONS, 0)
    assert chaos.system.rows("SELECT DISTINCT status FROM run") == [("success",)]
