"""Deletes everything of a kind, for test suites."""

from __future__ import annotations

from trellis.db import checkpoints, runs
from trellis.db.engine import Tx
from trellis.db.queries import execute
from trellis.domain.runs import RunStatus


def _run(tx: Tx, name: str, tenant_id: str) -> None:
    execute(tx, "truncate", name, {"tenant_id": tenant_id})


def lock(tx: Tx, tenant_id: str) -> tuple[list[str], list[str]]:
    """Lock every thread and run of a tenant. Returns the threads, and the runs that a worker executes."""
    params = {"tenant_id": tenant_id}
    threads = [row[0] for row in execute(tx, "truncate", "lock_threads", params)]
    found = execute(tx, "truncate", "lock_runs", params)
    return threads, [run_id for run_id, status in found if status == RunStatus.RUNNING]


def threads(tx: Tx, thread_ids: list[str]) -> None:
    """Delete locked threads with all that hangs on them."""
    runs.delete_threads(tx, thread_ids)


def all_runs(tx: Tx, tenant_id: str) -> None:
    """Delete the locked runs of a tenant; whoever executes one is fenced."""
    _run(tx, "runs", tenant_id)


def all_checkpoints(tx: Tx, tenant_id: str, thread_ids: list[str]) -> None:
    """Delete the checkpoints of locked threads."""
    checkpoints.delete_threads(tx, thread_ids)
    _run(tx, "clear_threads", tenant_id)


def assistants(tx: Tx, tenant_id: str) -> None:
    """Delete a tenant's assistants with their versions."""
    _run(tx, "assistants", tenant_id)


def store(tx: Tx, tenant_id: str) -> None:
    """Delete a tenant's store items."""
    _run(tx, "store", tenant_id)
