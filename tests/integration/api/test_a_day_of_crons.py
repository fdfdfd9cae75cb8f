"""24 hours of fifty crons with two schedulers: no tick fired twice, none missed. The database's clock is a simulated one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from trellis.domain.crons import NewCron, Timing
from trellis.domain.ids import new_id
from trellis.domain.new_run import NewRun
from trellis.runtime import Runtime, build
from trellis.services import crons
from trellis.services.assistants import ensure_defaults
from trellis.settings import Settings

#: On this day the hour from one to two comes twice in New York.
MIDNIGHT = datetime(2026, 11, 1, 4, tzinfo=UTC)
DAY = timedelta(hours=24)

#: Found before Postgres's own, by every statement of every process: nobody may look at another clock.
CLOCK = """
CREATE SCHEMA simulated;
CREATE TABLE simulated.clock (at timestamptz NOT NULL);
INSERT INTO simulated.clock VALUES ('{midnight}');
CREATE FUNCTION simulated.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT at FROM simulated.clock';
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %%I SET search_path = simulated, pg_catalog, public', current_database());
END $$;
"""

#: Schedule, time zone, how many crons, and the local minutes of the day at which it ticks.
SCHEDULES = (
    ("*/10 * * * *", None, 3, range(0, 1440, 10)),
    ("7-59/30 * * * *", "America/New_York", 6, range(7, 1440, 30)),
    ("0 * * * *", "America/New_York", 25, range(0, 1440, 60)),
    ("30 1 * * *", "America/New_York", 4, (90,)),
    ("45 8 * * *", "UTC", 4, (525,)),
    ("0 9-17/4 * * *", "Asia/Kolkata", 8, (540, 780, 1020)),
)  # fmt: skip


def expected(schedule: str, zone: str | None, minutes: frozenset[int]) -> list[datetime]:
    """The ticks of the day, found by looking at each of its minutes."""
    found = []
    for n in range(1, 24 * 60 + 1):
        local = (MIDNIGHT + timedelta(minutes=n)).astimezone(ZoneInfo(zone or "UTC"))
        names_hours = schedule.split()[1] != "*"
        if local.hour * 60 + local.minute in minutes and not (names_hours and local.fold):
            found.append(local.astimezone(UTC))
    return found


@pytest.fixture
def schedulers(
    new_database: Callable[[], str], redis_url: str, settings: Settings
) -> Iterator[list[Runtime]]:
    """Two processes' worth of runtimes on a database whose clock can be set."""
    url = new_database()
    own = replace(settings, database_url=url, redis_url=redis_url)
    with ExitStack() as stack:
        first = build(own)
        with first.engine.begin() as tx:
            tx.exec_driver_sql(CLOCK.format(midnight=MIDNIGHT.isoformat()))
        first.close()
        made = [build(own), build(own)]
        for rt in made:
            stack.callback(rt.close)
        ensure_defaults(made[0])
        yield made


def set_clock(rt: Runtime, at: datetime) -> None:
    with rt.engine.begin() as tx:
        tx.execute(text("UPDATE simulated.clock SET at = :at"), {"at": at})


def make(rt: Runtime, schedule: str, zone: str | None, *, on_thread: bool) -> str:
    thread_id = None
    if on_thread:
        thread_id = new_id()
        with rt.engine.begin() as tx:
            tx.execute(text("INSERT INTO thread (thread_id) VALUES (:t)"), {"t": thread_id})
    new = NewCron(
        timing=Timing(schedule=schedule, timezone=zone),
        thread_id=thread_id,
        on_run_completed=None if on_thread else "delete",
        metadata={},
        payload={},
        run=NewRun(assistant_id="echo"),
    )
    return str(crons.create(rt, "default", new)[0]["cron_id"])


def test_a_day(schedulers: list[Runtime]) -> None:
    first, second = schedulers
    wanted: dict[str, list[datetime]] = {}
    for schedule, zone, count, minutes in SCHEDULES:
        ticks = expected(schedule, zone, frozenset(minutes))
        for n in range(count):
            wanted[make(first, schedule, zone, on_thread=n % 2 == 0)] = ticks
    random = Random(1)
    now = MIDNIGHT
    with ThreadPoolExecutor(2) as pool:
        while now < MIDNIGHT + DAY:
            now = min(now + timedelta(seconds=random.uniform(120, 540)), MIDNIGHT + DAY)
            set_clock(first, now)
            list(pool.map(fire_all, [first, second]))

    with first.engine.connect() as tx:
        rows = tx.execute(
            text("SELECT cron_id::text, cron_tick FROM run WHERE cron_id IS NOT NULL")
        )
        fired = Counter((cron_id, tick) for cron_id, tick in rows)
    due = Counter((cron_id, tick) for cron_id, ticks in wanted.items() for tick in ticks)
    assert len(wanted) == 50
    assert {"twice": (fired - due).total(), "missed": (due - fired).total()} == {
        "twice": 0,
        "missed": 0,
    }
    assert fired.total() == 3 * 144 + 6 * 48 + 25 * 24 + 4 + 4 + 8 * 3


def fire_all(rt: Runtime) -> None:
    """As the chore does: at once again while something was found."""
    while crons.fire(rt):
        pass
