"""Every fault, on real processes, while clients of the SDK ask and get their answers.

`make test` lets one seed loose on few runs. `make chaos SEEDS=20 RUNS=10000` has them all in turn, each seed in an
order of its own, and then stops Postgres again and again (MONKEY_SECONDS=600).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.crowd import crowd
from chaos.faults import storm
from chaos.field import Field, lent
from chaos.report import Report

SEEDS = int(os.environ.get("SEEDS", "1"))
RUNS = int(os.environ.get("RUNS", "200"))
MONKEY_SECONDS = float(os.environ.get("MONKEY_SECONDS", "600"))

#: Of the faults that take turns, how many a seed has.
OTHERS = 4 if SEEDS > 1 else 2

# What clients that are cut off say, and then come back.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Request failed, attempting reconnect", "ignore:Reconnecting without a Last-Event-ID"
)


@pytest.fixture(scope="module")
def field(server_folder: Path) -> Iterator[Field]:
    folder = server_folder / "storm"
    folder.mkdir(mode=0o711)
    with lent(folder) as field:
        yield field


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
@pytest.mark.parametrize("seed", range(SEEDS))
def test_storm(field: Field, seed: int, report: Report) -> None:
    with crowd(field, report, kind="storm", seed=seed, runs=RUNS // SEEDS):
        let_loose(field, seed, report)


@pytest.mark.long
@pytest.mark.timeout(300 + MONKEY_SECONDS)
def test_postgres_monkey(field: Field, report: Report) -> None:
    """Postgres is stopped every 5 to 40 s, for up to 2 s, as DBOS's monkey does it."""
    pick = random.Random("monkey")
    until = time.monotonic() + MONKEY_SECONDS
    stops = 0
    with crowd(field, report, kind="Postgres monkey", seed=0, runs=0):
        while time.monotonic() < until:
            threading.Event().wait(pick.uniform(5, 40))
            with field.postgres.down():
                threading.Event().wait(pick.uniform(0, 2))
            stops += 1
    report.figure(f"Postgres monkey: {stops} stops in {MONKEY_SECONDS:.0f} s")
