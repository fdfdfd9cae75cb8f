"""Many clients at once, and the count of what became of their runs."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager

from chaos.audit import VIOLATIONS, violations
from chaos.customers import HANG_SECONDS, STEPS, VERBS, Answer, Customer
from chaos.field import Field
from chaos.report import Report
from trellis.dev.process import poll_until

#: Beside those that ask at each fault.
TALKERS = 4
#: Threads that runs share which nobody waits for, so that they queue behind each other.
THREADS = 12

LEFT = """
SELECT run_id, thread_id, status, fence, attempt, lease_owner, lease_expires_at - now(), now() - created_at
  FROM run WHERE status IN ('pending', 'running')
"""
ACTIVE = "SELECT count(*) FROM run WHERE status IN ('pending', 'running')"


@contextmanager
def crowd(field: Field, report: Report, *, kind: str, seed: int, runs: int) -> Iterator[None]:
    """Clients ask all the time while something is done, and until so many runs are made; then everything is right."""
    threads = [field.system.new_thread() for _ in range(THREADS)]
    over = threading.Event()
    talking, filling = _start(field, threads, seed=seed, runs=runs, over=over)
    try:
        try:
            yield
        finally:
            over.set()
        answers = [answer for talk in talking for answer in talk.result()]
        left = filling.result()
    except BaseException:
        _tell(field)
        raise
    _count(field, report, kind, [*(it.run_id for it in answers + field.answers), *left])
    for n, thread_id in enumerate(threads):
        values = field.system.get(f"/threads/{thread_id}")["values"] or {"log": []}
        assert values["log"] == STEPS * len(left[n::THREADS])
    assert max(answer.seconds for answer in answers) < HANG_SECONDS
    report.answered(f"{kind}, whoever asked", max(answer.seconds for answer in answers))
    field.answers.clear()


def _tell(field: Field) -> None:
    """What may say why it failed."""
    for process in field.webs + field.workers:
        print(f"--- {process.name}: {process.popen.poll()}\n{process.said()[-20_000:]}")
    print("--- active", *field.system.rows(LEFT), sep="\n")


def _start(
    field: Field, threads: list[str], *, seed: int, runs: int, over: threading.Event
) -> tuple[list[Future[list[Answer]]], Future[list[str]]]:
    share = -(-runs // 2)
    filling = field.clients.submit(_fill, field, threads, runs=share, over=over)
    talking = [
        field.clients.submit(
            _talk, field, random.Random(f"{seed}/{n}"), runs=share // TALKERS, over=over
        )
        for n in range(TALKERS)
    ]
    return talking, filling


def _talk(field: Field, pick: random.Random, *, runs: int, over: threading.Event) -> list[Answer]:
    """Call, in one way and another, until it is over and the share of runs is done."""
    answers: list[Answer] = []
    with closing(Customer(field.urls)) as customer:
        while not over.is_set() or len(answers) < runs:
            calm = over.wait(pick.uniform(0, 0.4))
            pause = 0.0 if calm else pick.choice([0, 0.1, 0.3])
            answers.append(customer.call(pick.choice(VERBS), pause=pause))
    return answers


def _fill(field: Field, threads: list[str], *, runs: int, over: threading.Event) -> list[str]:
    """Create runs that nobody waits for, thread after thread."""
    made: list[str] = []
    with closing(Customer(field.urls)) as customer:
        while not over.is_set() or len(made) < runs:
            over.wait(0.1)
            made.append(customer.leave(threads[len(made) % len(threads)]))
    return made


def _count(field: Field, report: Report, kind: str, accepted: list[str]) -> None:
    """Wait for the last run, and look for what must not have happened."""
    poll_until(lambda: field.system.rows(ACTIVE) == [(0,)], seconds=60)
    found = violations(field.system.database_url, accepted)
    report.seed(kind, runs=len(accepted), found=found)
    assert found == dict.fromkeys(VIOLATIONS, 0)
    assert field.system.rows("SELECT DISTINCT status FROM run") == [("success",)]
