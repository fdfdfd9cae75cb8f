"""Deletes everything of a kind, for test suites."""

from __future__ import annotations

from functools import partial

from trellis.db import checkpoints, queries, runs
from trellis.db.engine import Tx
from trellis.domain.runs import RunStatus

_rows = partial(queries.rows, "truncate")
_change = partial(queries.change, "truncate")


def lock(tx: Tx, tenant_id: str) -> tuple[list[str], list[str]]:
    """Lock every thread and run of a tenant. Returns the threads, and the runs that a worker executes."""
    threads = [row["thread_id"] for row in _rows(tx, "lock_threads", tenant_id=tenant_id)]
    found = _rows(tx, "lock_runs", tenant_id=tenant_id)
    return threads, [row["run_id"] for row in found if row["status"] == RunStatus.RUNNING]


def threads(tx: Tx, thread_ids: list[str]) -> None:
    """Delete locked threads with all that hangs on them."""
    runs.delete_threads(tx, thread_ids)


def all_runs(tx: Tx, tenant_id: str) -> None:
    """Delete the locked runs of a tenant; whoever executes one is fenced."""
    _change(tx, "runs", tenant_id=tenant_id)


def all_checkpoints(tx: Tx, tenant_id: str, thread_ids: list[str]) -> None:
    """Delete the checkpoints of locked threads."""
    checkpoints.delete_threads(tx, thread_ids)
    _change(tx, "clear_threads", tenant_id=tenant_id)


def assistants(tx: Tx, tenant_id: str) -> None:
    """Delete a tenant's assistants with their versions."""
    _change(tx, "assistants", tenant_id=tenant_id)


def store(tx: Tx, tenant_id: str) -> None:
    """Delete a tenant's store items."""
    _change(tx, "store", tenant_id=tenant_id)
