"""Do what failed for no reason of its own again: the database was out of reach, or a lock was in the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from trellis.db.engine import is_conflict, is_unavailable
from trellis.telemetry import DATABASE_RETRY, log

T = TypeVar("T")


def patiently(work: Callable[[], T], *, seconds: float) -> T:
    """Return what a transaction returns, tried for so long. It may have been committed before: it must bear that."""
    until, pause = time.monotonic() + seconds, 0.02
    while True:
        try:
            return work()
        except Exception as error:
            if time.monotonic() >= until or not (is_unavailable(error) or is_conflict(error)):
                raise
            log().warning(DATABASE_RETRY, error=str(error).split("\n")[0])
        time.sleep(pause)
        pause = min(pause * 2, 1.0)
