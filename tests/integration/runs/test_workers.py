"""Which worker processes are there, as they say it themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from trellis.db import health
from trellis.db.owners import disown
from trellis_workers.maintenance import reporter

COUNT = "SELECT count(*) FROM worker"
AGE = "UPDATE worker SET seen_at = clock_timestamp() - :s * interval '1 second'"


@pytest.fixture
def report(engine: Engine) -> Callable[..., None]:
    def say(owner: str, *, slots: int = 4, draining: bool = False) -> None:
        leaving = threading.Event()
        if draining:
            leaving.set()
        reporter.report(engine, owner, slots=slots, draining=leaving)

    return say


def most(engine: Engine) -> int:
    found = health.queue(engine)
    assert found is not None
    return int(found["workers_max"])


def test_report(engine, report, one):
    report("a", slots=4)
    report("b", slots=8)
    report("b", slots=16)

    assert most(engine) == 20
    assert one(COUNT) == 2


def test_report__draining(engine, report):
    report("a")
    report("a", draining=True)

    assert most(engine) == 0


@pytest.mark.parametrize(("seconds", "kept"), [(20, 2), (3600, 1)])
def test_report__silent(engine, report, one, seconds, kept):
    report("a", slots=4)
    with engine.begin() as tx:
        tx.execute(text(AGE), {"s": seconds})
    report("b", slots=8)

    assert most(engine) == 8
    assert one(COUNT) == kept


def test_leave(engine, report):
    report("a")

    reporter.leave(engine, "a")

    assert most(engine) == 0


def test_disown__forgets_the_process(engine, report, database_url):
    report("a")

    disown(database_url, "a")

    assert most(engine) == 0
