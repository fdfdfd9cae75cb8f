"""When crons run: time zones, clock changes, ends, and what is no schedule."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.domain.crons import Timing, changed_tick, first_tick, next_tick
from trellis.errors import Invalid

NOW = datetime(2026, 11, 22, 10, 9, 30, 500_000, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def local_ticks(schedule: str, zone: str, start: str, count: int) -> list[str]:
    """The next ticks as a clock on the wall shows them."""
    timing, tick, shown = Timing(schedule=schedule, timezone=zone), at(start), []
    for _ in range(count):
        tick = first_tick(timing, tick)
        shown.append(tick.astimezone(ZoneInfo(zone)).strftime("%d %H:%M %z"))
    return shown


@pytest.mark.parametrize(
    ("schedule", "zone", "expected"),
    [
        ("*/5 * * * *", None, "2026-11-22T10:10+00:00"),
        ("*/5 * * * *", "America/New_York", "2026-11-22T10:10+00:00"),
        ("0 0 * * *", "America/New_York", "2026-11-23T05:00+00:00"),
        ("0 9 * * 1-5", None, "2026-11-23T09:00+00:00"),
        ("@hourly", None, "2026-11-22T11:00+00:00"),
        ("*/10 * * * * *", None, "2026-11-22T10:10+00:00"),
        ("* * * * * */10", None, "2026-11-22T10:09:40+00:00"),
        ("0 0 29 2 *", None, "2028-02-29T00:00+00:00"),
        ("0 0 1 1 * 0 2030", None, "2030-01-01T00:00+00:00"),
    ],
)
def test_first_tick(schedule: str, zone: str | None, expected: str) -> None:
    assert first_tick(Timing(schedule=schedule, timezone=zone), NOW) == at(expected)


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ("bad", "Exactly 5, 6 or 7 columns"),
        ("", "Exactly 5, 6 or 7 columns"),
        ("60 * * * *", "out of range"),
        ("*/0 * * * *", "step '0'"),
        ("0 0 30 2 *", "There is no such date"),
        ("0 0 1 1 * 0 2020", "There is no such date"),
        ("R R * * *", "Random"),
        ("h(0-5) * * * *", "Random"),
        ("0 " * 200, "longer than 255"),
    ],
)
def test_first_tick__no_schedule(schedule: str, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        first_tick(Timing(schedule=schedule), NOW)

    assert str(refused.value).startswith(f"Invalid cron schedule: '{schedule[:80]}'. Reason: ")
    assert reason in str(refused.value)
    assert "Example: '*/5 * * * *' for every 5 minutes." in str(refused.value)


@pytest.mark.parametrize(
    "zone", ["Mars/X", "America", "", "../etc/passwd", "/etc/passwd", "x" * 5000, "\xe9"]
)
def test_first_tick__no_time_zone(zone: str) -> None:
    with pytest.raises(Invalid, match="Use IANA timezone format"):
        first_tick(Timing(schedule="* * * * *", timezone=zone), NOW)


@pytest.mark.parametrize(
    ("schedule", "zone", "start", "expected"),
    [
        # Spring: 02:00 to 03:00 does not exist on the 8th of March.
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-07T12:00+00:00",
            ["08 03:00 -0400", "09 02:30 -0400"],
        ),
        (
            "*/30 * * * *",
            "America/New_York",
            "2026-03-08T06:15+00:00",
            ["08 01:30 -0500", "08 03:00 -0400", "08 03:30 -0400"],
        ),
        # Autumn: 01:00 to 02:00 comes twice on the 1st of November.
        (
            "30 1 * * *",
            "America/New_York",
            "2026-11-01T04:00+00:00",
            ["01 01:30 -0400", "02 01:30 -0500"],
        ),
        (
            "0,30 1,2 * * *",
            "America/New_York",
            "2026-11-01T04:00+00:00",
            ["01 01:00 -0400", "01 01:30 -0400", "01 02:00 -0500", "01 02:30 -0500"],
        ),
        (
            "30 * * * *",
            "America/New_York",
            "2026-11-01T05:00+00:00",
            ["01 01:30 -0400", "01 01:30 -0500", "01 02:30 -0500"],
        ),
        # Half an hour, and at midnight.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T04:00+00:00",
            ["04 02:30 +1100", "05 02:15 +1100"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T04:00+00:00",
            ["05 01:45 +1100", "06 01:45 +1030"],
        ),
    ],
)
def test_first_tick__clock_changes(
    schedule: str, zone: str, start: str, expected: list[str]
) -> None:
    assert local_ticks(schedule, zone, start, len(expected)) == expected


@given(
    st.from_regex(r"[0-9*/,\-LWHR# a-z]{1,40}", fullmatch=True),
    st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)),
)
@settings(max_examples=300)
def test_next_tick__is_later_or_refused_in_no_time(schedule: str, now: datetime) -> None:
    started = time.process_time()
    try:
        tick = next_tick(
            Timing(schedule=schedule, timezone="Europe/Berlin"), now.replace(tzinfo=UTC)
        )
    except Invalid:
        tick = None

    assert tick is None or tick > now.replace(tzinfo=UTC)
    assert time.process_time() - started < 1


HOURLY = Timing(schedule="@hourly")
DUE = NOW - timedelta(seconds=1)
FRESH = at("2026-11-22T11:00+00:00")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (HOURLY, HOURLY, DUE),
        (HOURLY, Timing(schedule="@hourly", enabled=False), DUE),
        (HOURLY, Timing(schedule="@hourly", end_time=NOW + timedelta(days=1)), DUE),
        (HOURLY, Timing(schedule="0 12 * * *"), at("2026-11-22T12:00+00:00")),
        (HOURLY, Timing(schedule="@hourly", timezone="Europe/Berlin"), FRESH),
        # What was missed while it was off, or after its end, is not made up for.
        (Timing(schedule="@hourly", enabled=False), HOURLY, FRESH),
        (Timing(schedule="@hourly", end_time=DUE - timedelta(1)), HOURLY, FRESH),
    ],
)
def test_changed_tick(before: Timing, after: Timing, expected: datetime) -> None:
    assert changed_tick(after, NOW, before=before, was=DUE) == expected
