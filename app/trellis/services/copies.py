"""
Copies of threads, with their state and history.

Where the operator's own checkpointer holds the values, they are copied first, with no transaction open, and then the
rows, if nothing has changed since (the thread's fence tells). What comes to nothing is deleted there again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis.db import cancel as run_locks
from trellis.db import checkpoints, threads
from trellis.db.checkpoints import Contents, leftovers
from trellis.db.engine import Tx
from trellis.db.vault import vault_of
from trellis.domain.ids import new_id
from trellis.domain.runs import RunStatus
from trellis.errors import Conflict
from trellis.runtime import Runtime

Row = Mapping[str, Any]

#: How often values are copied because something else came in between.
_TRIES = 5
#: After so long a copy has come to nothing, in seconds.
_DEADLINE_SECONDS = 3600.0


def copy(rt: Runtime, tenant_id: str, thread_id: str, *, metadata: Mapping[str, Any]) -> Row:
    """
    Make a thread with the state and the history of another, without its runs; `metadata` marks it.

    :raises Conflict: there is no such thread, or it changes right now.
    """
    if rt.contents is not None:
        return _copy_with_contents(rt, rt.contents, tenant_id, thread_id, metadata)
    with rt.engine.begin() as tx:
        _lock_at_rest(tx, tenant_id, thread_id)
        return _copied(tx, tenant_id, thread_id, new_id(), metadata)


def _lock_at_rest(tx: Tx, tenant_id: str, thread_id: str) -> None:
    if not run_locks.lock_threads(tx, tenant_id, [thread_id]):
        raise Conflict(f"Conflict: there is no thread with ID {thread_id} to copy")
    if any(run["status"] == RunStatus.RUNNING for run in run_locks.active(tx, thread_id)):
        raise Conflict(
            f"Conflict: a run is executing on thread {thread_id}. Copy it when it has ended."
        )


def _copied(
    tx: Tx, tenant_id: str, thread_id: str, target: str, metadata: Mapping[str, Any]
) -> Row:
    row = threads.copy(tx, thread_id, target)
    checkpoints.copy_thread(tx, thread_id, target)
    if metadata:
        vault = vault_of(tx)
        sealed = threads.sealed(vault, metadata)
        marked = threads.patch(tx, tenant_id, thread_id=target, metadata=sealed, ttl=None)
        row = threads.opened(vault, marked) if marked else row
    return row


def _copy_with_contents(
    rt: Runtime, contents: Contents, tenant_id: str, thread_id: str, metadata: Mapping[str, Any]
) -> Row:
    for _ in range(_TRIES):
        target = new_id()
        with rt.engine.begin() as tx:
            _lock_at_rest(tx, tenant_id, thread_id)
            fence = _fence(tx, tenant_id, thread_id)
            ids = checkpoints.ids_of(tx, thread_id)
            leftovers.leave_threads(tx, [target], delay_seconds=_DEADLINE_SECONDS)
        contents.copy(thread_id, target, ids)
        with rt.engine.begin() as tx:
            _lock_at_rest(tx, tenant_id, thread_id)
            is_same = _fence(tx, tenant_id, thread_id) == fence
            if is_same and leftovers.keep(tx, target):
                return _copied(tx, tenant_id, thread_id, target, metadata)
            leftovers.hasten(tx, thread_id=target)
    raise Conflict(f"Conflict: thread {thread_id} changes all the time. Try again.")


def _fence(tx: Tx, tenant_id: str, thread_id: str) -> int:
    """Of a locked thread."""
    basis = threads.basis(tx, tenant_id, thread_id)
    assert basis is not None
    fence: int = basis["fence"]
    return fence
