"""Rows of presence: until when a web process has vouched for the client whose leaving cancels a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from trellis.db import cancel, queries
from trellis.db.cancel import Stopped
from trellis.db.engine import Tx
from trellis.db.queries import Row
from trellis.domain.multitask import DISCONNECTED, Action

_rows = partial(queries.rows, "presence")
_run = partial(queries.change, "presence")


def keep(tx: Tx, run_ids: Sequence[str], *, seconds: float) -> None:
    """Vouch for the clients of runs that are not over, for so long."""
    _run(tx, "keep", run_ids=list(run_ids), seconds=seconds)


def forget(tx: Tx, run_ids: Sequence[str]) -> None:
    """Nobody's leaving cancels these runs any more."""
    _run(tx, "forget", run_ids=list(run_ids))


def absent(tx: Tx, *, limit: int = 500) -> Sequence[Row]:
    """Runs whose client nobody vouches for just now: candidates for `cancel_abandoned`."""
    return _rows(tx, "absent", limit=limit)


def cancel_abandoned(tx: Tx, row: Row) -> Stopped:
    """Cancel a run that `absent` found, unless somebody has vouched for its client since, or it is over."""
    if not cancel.lock_thread(tx, row["tenant_id"], row["thread_id"]):
        among = []
    else:
        active = cancel.active(tx, row["thread_id"])
        among = [each for each in active if each["run_id"] == row["run_id"]]
    if not _run(tx, "take", run_id=row["run_id"], until=row["until"]) or not among:
        return Stopped()
    return cancel.stop(
        tx, row["thread_id"], among=among, action=Action.INTERRUPT, reason=DISCONNECTED
    )
