"""What happened on a thread, as rows tell it: its claims, and the runs that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from trellis.db import queries
from trellis.db.engine import Tx
from trellis.db.queries import Row

_rows = partial(queries.rows, "feeds")
_row = partial(queries.row, "feeds")


def fence(tx: Tx, tenant_id: str, thread_id: str) -> int | None:
    """How many claims of its runs a thread has seen. None: there is no such thread."""
    row = _row(tx, "fence", tenant_id=tenant_id, thread_id=thread_id)
    return None if row is None else int(row["fence"])


def attempts(
    tx: Tx, tenant_id: str, thread_id: str, *, since: int, kept_seconds: float, limit: int
) -> Sequence[Row]:
    """
    The last attempts at runs from a fence on, in their order.

    Run, graph, fence, whether the run is over, and whether its log may still be there.
    """
    return _rows(
        tx,
        "attempts",
        tenant_id=tenant_id,
        thread_id=thread_id,
        since=since,
        kept_seconds=kept_seconds,
        limit=limit,
    )


def over(tx: Tx, tenant_id: str, thread_id: str, *, limit: int) -> int:
    """The last claim among a thread's newest runs that are over; 0 if none is."""
    row = _row(tx, "over", tenant_id=tenant_id, thread_id=thread_id, limit=limit)
    return 0 if row is None else int(row["fence"])


def is_paused(tx: Tx, tenant_id: str, thread_id: str, run_id: str) -> bool:
    """Whether a thread waits at a node, and a run of it was the last."""
    row = _row(tx, "is_paused", tenant_id=tenant_id, thread_id=thread_id, run_id=run_id)
    return row is not None
