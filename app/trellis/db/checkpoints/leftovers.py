"""
What the operator's own checkpointer still holds of checkpoints that are gone: an outbox, which workers work off.

A row is written in the transaction that deletes the checkpoints' rows, so that no crash makes anybody forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from trellis.db import queries
from trellis.db.checkpoints.contents import contents_of
from trellis.db.engine import Tx

_row = partial(queries.row, "leftovers")
_change = partial(queries.change, "leftovers")

#: How long after a thread it goes, in seconds. By then nobody is reading it any more, and no lease of a run holds.
_DELAY_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """Something to delete, for one process until the deadline."""

    leftover_id: int
    thread_id: str
    run_id: str | None  #: None: everything of the thread
    attempt: int


def leave_threads(
    tx: Tx, thread_ids: Sequence[str], *, delay_seconds: float = _DELAY_SECONDS
) -> None:
    """Have everything of threads deleted there. Does nothing if values are in Postgres."""
    if contents_of(tx) is not None:
        _change(tx, "leave_threads", thread_ids=list(thread_ids), delay=delay_seconds)


def leave_run(tx: Tx, run_id: str, thread_id: str) -> None:
    """Have what a run has put there deleted, if the checkpointer can do that; if not, it goes with the thread."""
    contents = contents_of(tx)
    if contents is not None and contents.deletes_runs:
        _change(tx, "leave_run", run_id=run_id, thread_id=thread_id)


def hasten(tx: Tx, *, thread_id: str) -> bool:
    """Whether something is left of an earlier thread with this id; it is deleted as soon as can be."""
    row = _row(tx, "hasten", thread_id=thread_id)
    return bool(row and row["exists"])


def keep(tx: Tx, thread_id: str) -> bool:
    """Call off the deletion of a thread. False: it has begun."""
    return _row(tx, "keep", thread_id=thread_id) is not None


def take(tx: Tx, *, deadline_seconds: float) -> Leftover | None:
    """Take what is due. What is not reported within the deadline is due again. None: nothing is."""
    row = _row(tx, "take", deadline=deadline_seconds)
    return Leftover(**row) if row else None


def removed(tx: Tx, leftover: Leftover) -> None:
    """It is gone."""
    _change(tx, "removed", leftover_id=leftover.leftover_id)


def failed(tx: Tx, leftover: Leftover, *, error: str, pause_seconds: float) -> None:
    """Note why it is not, and when to try again."""
    _change(
        tx,
        "failed",
        leftover_id=leftover.leftover_id,
        attempt=leftover.attempt,
        error=error,
        pause=pause_seconds,
    )
