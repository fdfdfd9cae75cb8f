"""Return runs whose lease ran out to pending, or give them up."""

from __future__ import annotations

from sqlalchemy import Engine

from trellis.db import runs
from trellis.telemetry import RUN_RESCUED, log

#: First pause before a lost run starts again, in seconds; doubled with each crash.
BACKOFF_SECONDS = 0.5


def rescue(engine: Engine) -> int:
    """Look at every expired lease once. Returns how many runs were moved."""
    with engine.connect() as tx:
        candidates = runs.expired(tx)
    return sum(_rescue(engine, row["run_id"], row["thread_id"]) for row in candidates)


def _rescue(engine: Engine, run_id: str, thread_id: str) -> bool:
    with engine.begin() as tx:
        status = runs.rescue(tx, run_id, thread_id, backoff_seconds=BACKOFF_SECONDS)
    if status is not None:
        log().warning(RUN_RESCUED, run_id=run_id, status=status)
    return status is not None
