"""When a cron runs: its ticks in its own time zone, across clock changes, until its end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, CroniterError, croniter

from trellis.domain.new_run import NewRun
from trellis.errors import Invalid

_MAX_LENGTH = 255
#: Fields that mean another time at each look: "H", "R(0-5)", "R/10".
_RANDOM = re.compile(r"[hr](\(.*|/.*)?", re.IGNORECASE)
#: The 29th of February that is a fifth Monday comes every 28 years.
_MAX_YEARS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """When a cron runs."""

    schedule: str  #: five fields, a sixth for seconds, a seventh for years; or @hourly and the like
    timezone: str | None = None  #: IANA; None is UTC
    end_time: datetime | None = None  #: a tick at this very moment is the last
    enabled: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCron:
    """A cron that a client wants, or wants one to become. Every value is checked; nothing is looked up yet."""

    timing: Timing
    thread_id: str | None  #: None: each tick has a thread of its own
    on_run_completed: str | None  #: what becomes of that thread
    metadata: Mapping[str, Any]
    payload: Mapping[str, Any]  #: the body as it was sent
    run: NewRun  #: what each tick asks for


def first_tick(timing: Timing, now: datetime) -> datetime:
    """
    The first tick of a new cron.

    :raises Invalid: schedule or time zone make no sense.
    """
    tick = next_tick(timing, now)
    if tick is None:
        raise _invalid(timing.schedule, f"There is no such date in the next {_MAX_YEARS} years.")
    return tick


def next_tick(timing: Timing, after: datetime) -> datetime | None:
    """
    The next tick after a moment. None means that there is none any more.

    A local time that a clock change skips is made up for right after the gap. One that comes twice counts once when
    the schedule names hours, and each time when it is for every hour.

    :raises Invalid: schedule or time zone make no sense.
    """
    try:
        ticks = croniter(
            _fields(timing.schedule),
            after.astimezone(_zone(timing.timezone)),
            ret_type=datetime,
            max_years_between_matches=_MAX_YEARS,
        )
        tick: datetime = ticks.get_next()
        while tick.fold and ticks.expanded[1] != ["*"]:
            tick = ticks.get_next()
    except CroniterBadDateError:
        return None
    except CroniterError as error:
        raise _invalid(timing.schedule, str(error)) from None
    return tick.astimezone(UTC)


def changed_tick(
    timing: Timing, now: datetime, *, before: Timing, was: datetime | None
) -> datetime | None:
    """
    The next tick of a cron that has been changed: what is due stays due unless the change is about that.

    :raises Invalid: schedule or time zone make no sense.
    """
    same = (timing.schedule, timing.timezone) == (before.schedule, before.timezone)
    return was if same and _is_live(before, was) else first_tick(timing, now)


def _is_live(timing: Timing, tick: datetime | None) -> bool:
    if tick is None or not timing.enabled:
        return False
    return timing.end_time is None or tick <= timing.end_time


def _fields(schedule: str) -> str:
    if len(schedule) > _MAX_LENGTH:
        raise _invalid(schedule, f"It is longer than {_MAX_LENGTH} characters.")
    if any(_RANDOM.fullmatch(each) for each in schedule.split()):
        raise _invalid(schedule, "Random and hashed times are not supported.")
    return schedule


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    # No such file; or a name that cannot be one of a file; or a folder.
    except (KeyError, ValueError, OSError):
        raise Invalid(
            f"Invalid timezone: '{name[:80]}'. Use IANA timezone format (e.g. 'America/New_York')."
        ) from None


def _invalid(schedule: str, reason: str) -> Invalid:
    return Invalid(
        f"Invalid cron schedule: '{schedule[:80]}'. Reason: {reason[:200]} Ensure the schedule uses the standard "
        "cron format (minute hour day_of_month month day_of_week). Example: '*/5 * * * *' for every 5 minutes."
    )
