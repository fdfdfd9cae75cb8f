"""Runs that their workers do not look after: back to pending, ended as was asked for, timed out, or given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from trellis.db import cancel, runs
from trellis.db.engine import is_unavailable
from trellis.db.queries import Row
from trellis.dispatch.signals import Signals
from trellis.domain.runs import TERMINAL, Ended, RunStatus
from trellis.telemetry import RESCUE_FAILED, RUN_RESCUED, log

#: Tells whoever follows runs that they are over.
Tell = Callable[[Sequence[Ended]], None]

#: First pause before a lost run starts again, in seconds; doubled with each crash.
BACKOFF_SECONDS = 0.5
#: How long a worker that is alive may take to end a run when asked to, in seconds: a heartbeat until it knows
#: without Redis (5 s), the grace that a node gets (5 s), and time to say so.
_PATIENCE_SECONDS = 15.0


def rescue(engine: Engine, tell: Tell) -> int:
    """Look at every lost run once. Returns how many were moved."""
    with engine.connect() as tx:
        candidates = runs.expired(tx, patience_seconds=_PATIENCE_SECONDS)
    ended: list[Ended] = []
    try:
        return sum(_try_to_rescue(engine, row, ended) for row in candidates)
    finally:
        # At once: each time, a Redis that is away takes its timeout.
        tell(ended)


def time_out(engine: Engine, signals: Signals) -> int:
    """Ask for the end of runs past their deadline. Returns how many."""
    with engine.begin() as tx:
        late = cancel.time_out(tx)
    signals(late)
    return len(late)


def _try_to_rescue(engine: Engine, lost: Row, ended: list[Ended]) -> bool:
    """One whose rows are locked, or too many to be deleted in time, must not keep the others waiting."""
    try:
        return _rescue(engine, lost, ended)
    except SQLAlchemyError as error:
        if is_unavailable(error):
            raise
        log().warning(RESCUE_FAILED, run_id=lost["run_id"], error=str(error).split("\n")[0])
        return False


def _rescue(engine: Engine, lost: Row, ended: list[Ended]) -> bool:
    ids = lost["run_id"], lost["thread_id"]
    end = None
    with engine.begin() as tx:
        found = cancel.end_overdue(tx, *ids, patience_seconds=_PATIENCE_SECONDS) or runs.rescue(
            tx, *ids, backoff_seconds=BACKOFF_SECONDS
        )
        if found is not None and RunStatus(found) in TERMINAL:
            end = cancel.count_end(tx, lost, RunStatus(found))
    if end is not None:
        ended.append(end)
    if found is not None:
        log().warning(RUN_RESCUED, run_id=lost["run_id"], status=str(found))
    return found is not None
