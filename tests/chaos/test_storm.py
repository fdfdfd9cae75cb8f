"""Every fault, on real processes, while clients of the SDK ask and get their answers.

`make test` lets one seed loose on few runs. `make chaos SEEDS=20 RUNS=10000` has them all in turn, each seed in an
order of its own.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chaos.audit import VIOLATIONS, violations
from chaos.customers import HANG_SECONDS, STEPS, VERBS, Answer, Customer
from chaos.faults import storm
from chaos.field import Field, lent
from chaos.report import Report
from trellis.dev.process import poll_until

SEEDS = int(os.environ.get("SEEDS", "1"))
RUNS = int(os.environ.get("RUNS", "200"))

#: Of the faults that take turns, how many a seed has.
OTHERS = 4 if SEEDS > 1 else 2
#: Beside those that ask at each fault.
TALKERS = 4
#: Threads that runs share which nobody waits for, so that they queue behind each other.
THREADS = 12

ACTIVE = "SELECT count(*) FROM run WHERE status IN ('pending', 'running')"


@pytest.fixture(scope="module")
def field(server_folder: Path) -> Iterator[Field]:
    folder = server_folder / "storm"
    folder.mkdir(mode=0o711)
    with lent(folder) as field:
        yield field


def talk(field: Field, pick: random.Random, *, runs: int, over: threading.Event) -> list[Answer]:
    """Call, in one way and another, until the storm is over and the share of runs is done."""
    answers: list[Answer] = []
    with closing(Customer(field.urls)) as customer:
        while not over.is_set() or len(answers) < runs:
            calm = over.wait(pick.uniform(0, 0.4))
            pause = 0.0 if calm else pick.choice([0, 0.1, 0.3])
            answers.append(customer.call(pick.choice(VERBS), pause=pause))
    return answers


def fill(field: Field, threads: list[str], *, runs: int, over: threading.Event) -> list[str]:
    """Create runs that nobody waits for, thread after thread."""
    made: list[str] = []
    with closing(Customer(field.urls)) as customer:
        while not over.is_set() or len(made) < runs:
            over.wait(0.1)
            made.append(customer.leave(threads[len(made) % len(threads)]))
    return made


def let_loose(field: Field, seed: int, report: Report) -> None:
    """One fault after the other; each ends with everybody answered."""
    pick = random.Random(seed)
    for name, act in storm(pick, seed=seed, others=OTHERS):
        print(f"seed {seed}: {name}", end=": ", flush=True)
        before = len(field.answers)
        started = time.monotonic()
        with field.everybody_asks():
            act(field, pick)
        slowest = max(answer.seconds for answer in field.answers[before:])
        report.answered(name, slowest)
        print(f"{time.monotonic() - started:.1f} s, slowest answer {slowest:.1f} s")


@pytest.mark.timeout(300 + RUNS / SEEDS)
@pytest.mark.filterwarnings(
    "ignore:Request failed, attempting reconnect", "ignore:Reconnecting without a Last-Event-ID"
)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_storm(field: Field, seed: int, report: Report) -> None:
    share = -(-RUNS // SEEDS // 2)
    threads = [field.system.new_thread() for _ in range(THREADS)]
    over = threading.Event()
    filling = field.clients.submit(fill, field, threads, runs=share, over=over)
    talking = [
        field.clients.submit(
            talk, field, random.Random(f"{seed}/{n}"), runs=share // TALKERS, over=over
        )
        for n in range(TALKERS)
    ]

    try:
        let_loose(field, seed, report)
    finally:
        over.set()
    try:
        answers = [answer for talk in talking for answer in talk.result()]
        left = filling.result()

    except BaseException:
        print(*(f"{it.name}\n{it.said()}" for it in field.webs), sep="\n")
        raise

    poll_until(lambda: field.system.rows(ACTIVE) == [(0,)], seconds=60)
    accepted = [*(answer.run_id for answer in answers + field.answers), *left]
    found = violations(field.system.database_url, accepted)
    report.seed("storm", runs=len(accepted), found=found)
    assert found == dict.fromkeys(VIOLATIONS, 0)
    assert field.system.rows("SELECT DISTINCT status FROM run") == [("success",)]
    for n, thread_id in enumerate(threads):
        values = field.system.get(f"/threads/{thread_id}")["values"]
        assert values["log"] == STEPS * len(left[n::THREADS])
    assert max(answer.seconds for answer in answers) < HANG_SECONDS
    field.answers.clear()
