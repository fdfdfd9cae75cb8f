"""Runs that their workers do not look after: back to pending, ended as was asked for, timed out, or given up."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from trellis.db import cancel, runs
from trellis.db.engine import is_unavailable
from trellis.dispatch.signals import Signals
from trellis.telemetry import RESCUE_FAILED, RUN_RESCUED, log

#: First pause before a lost run starts again, in seconds; doubled with each crash.
BACKOFF_SECONDS = 0.5
#: How long a worker that is alive may take to end a run when asked to, in seconds: a heartbeat until it knows
#: without Redis (5 s), the grace that a node gets (5 s), and time to say so.
_PATIENCE_SECONDS = 15.0


def rescue(engine: Engine) -> int:
    """Look at every lost run once. Returns how many were moved."""
    with engine.connect() as tx:
        candidates = runs.expired(tx, patience_seconds=_PATIENCE_SECONDS)
    return sum(_try_to_rescue(engine, row["run_id"], row["thread_id"]) for row in candidates)


def time_out(engine: Engine, signals: Signals) -> int:
    """Ask for the end of runs past their deadline. Returns how many."""
    with engine.begin() as tx:
        late = cancel.time_out(tx)
    signals(late)
    return len(late)


def _try_to_rescue(engine: Engine, run_id: str, thread_id: str) -> bool:
    """One whose rows are locked, or too many to be deleted in time, must not keep the others waiting."""
    try:
        return _rescue(engine, run_id, thread_id)
    except SQLAlchemyError as error:
        if is_unavailable(error):
            raise
        log().warning(RESCUE_FAILED, run_id=run_id, error=str(error).split("\n")[0])
        return False


def _rescue(engine: Engine, run_id: str, thread_id: str) -> bool:
    with engine.begin() as tx:
        status = cancel.end_overdue(tx, run_id, thread_id, patience_seconds=_PATIENCE_SECONDS)
        if status is None:
            found = runs.rescue(tx, run_id, thread_id, backoff_seconds=BACKOFF_SECONDS)
        else:
            found = str(status)
    if found is not None:
        log().warning(RUN_RESCUED, run_id=run_id, status=found)
    return found is not None
