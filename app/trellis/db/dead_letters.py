"""Rows of dead letters: what runs that ended in error were asked to do, and why they failed. For operators only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from trellis.db import queries
from trellis.db.engine import Tx
from trellis.db.vault import vault_of

LOST = "its worker was lost too often"
RAISED = "its graph raised"

_run = partial(queries.change, "dead_letters")


def bury(tx: Tx, letters: Sequence[tuple[str, str, str | None]]) -> None:
    """Keep runs that end in error in this transaction, given as (run id, reason, traceback)."""
    vault = vault_of(tx)
    ids, reasons, _ = zip(*letters, strict=True)
    sealed = [
        vault.seal_text(traceback, "run", run_id, "traceback") for run_id, _, traceback in letters
    ]
    _run(tx, "bury", run_ids=list(ids), reasons=list(reasons), tracebacks=sealed)


def forget(tx: Tx, thread_ids: Sequence[str], run_id: str | None = None) -> None:
    """Delete the letters of threads, or of one of their runs."""
    _run(tx, "forget", thread_ids=list(thread_ids), run_id=run_id)


def sweep(tx: Tx, *, limit: int) -> int:
    """Delete letters that are a month old. Returns how many."""
    return _run(tx, "sweep", limit=limit)
