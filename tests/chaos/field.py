"""A whole Trellis on which faults are let loose: two webs, three worker processes, stores of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import psycopg2

from acceptance.course import Held, hold
from acceptance.system import FAULTS, Process, System, running, wait_for
from chaos import skew
from chaos.audit import install
from chaos.customers import HANG_SECONDS, STEPS, VERBS, Answer, Customer
from chaos.stores import Postgres, Redis
from trellis.dev.process import any_port

#: A worker's clock is wrong by this, one way or the other.
SKEW_SECONDS = 600
#: One asks over a fault, and another one while it lasts.
PARTIES = 2


@dataclass
class Field:
    """The system, its clients, and how soon they were answered."""

    system: System
    other: System  #: the second web's
    redis: Redis
    postgres: Postgres
    clients: ThreadPoolExecutor
    folder: Path
    webs: list[Process]
    workers: list[
        Process
    ]  #: the first with two processes, the second with one whose clock is wrong
    parties: list[list[Customer]]  #: those that do not ask just now
    skew: int = SKEW_SECONDS
    cells: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        return [self.system.url, self.other.url]

    def processes(self) -> list[int]:
        """Those that execute runs."""
        return [c.pid for it in self.workers for c in psutil.Process(it.popen.pid).children()]

    @contextmanager
    def everybody_asks(self) -> Iterator[None]:
        """Somebody calls in each way before what is done here, and has the right answer in time after it."""
        party = self.parties.pop()
        calls = [
            self.clients.submit(customer.call, verb, pause=0.1)
            for customer, verb in zip(party, VERBS, strict=True)
        ]
        try:
            yield
        finally:
            wait(calls)
            self.parties.append(party)
        answers = [call.result() for call in calls]
        self.answers += answers
        assert max(answer.seconds for answer in answers) < HANG_SECONDS, answers

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

    def start_workers(self) -> None:
        """Have both workers, starting those that are missing."""
        clock = skew.environment(self.folder, self.skew)
        environments: list[dict[str, str]] = [{"TRELLIS_WORKER_PROCESSES": "2"}, clock]
        for n, env in enumerate(environments):
            if n >= len(self.workers) or not self.workers[n].is_alive():
                self.workers[n : n + 1] = [self.system.start("worker", **env)]
        for worker in self.workers:
            worker.wait_until_says("worker.ready")

    def start_webs(self) -> None:
        """Have both webs, starting those that are missing."""
        for n, system in enumerate([self.system, self.other]):
            if n >= len(self.webs) or not self.webs[n].is_alive():
                self.webs[n : n + 1] = [system.start_web()]


def end(held: Held) -> None:
    """The client has its answer, which is that of an undisturbed run."""
    answer = held.client.result()
    assert answer.status == 200, answer
    assert answer.json()["log"] == STEPS
    assert held.count(">one") == 1


@contextmanager
def lent(folder: Path) -> Iterator[Field]:
    """Start everything; at the end every process must stop by itself."""
    with ExitStack() as stack:
        postgres = stack.enter_context(closing(Postgres(folder / "postgres")))
        redis = stack.enter_context(closing(Redis(folder / "redis")))
        install(postgres.url)
        logs = folder / "logs"
        logs.mkdir()
        system = stack.enter_context(running(System(postgres.url, redis.url, logs, FAULTS)))
        other = replace(system, port=any_port())
        clients = stack.enter_context(ThreadPoolExecutor(32))
        made = Field(system, other, redis, postgres, clients, logs, [], [], [])
        made.start_webs()
        made.start_workers()
        for _ in range(PARTIES):
            party = [stack.enter_context(closing(Customer(made.urls))) for _ in VERBS]
            made.parties.append(party)
        yield made
