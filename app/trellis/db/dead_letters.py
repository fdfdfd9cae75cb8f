"""Rows of dead letters: what runs that ended in error were asked to do, and why they failed. For operators only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from trellis.db import queries
from trellis.db.engine import Tx
from trellis.db.queries import Row
from trellis.db.vault import Vault, vault_of
from trellis.errors import EncryptionFailed, Undecipherable

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


def newest(tx: Tx, *, graph_id: str | None, run_id: str | None, limit: int) -> list[dict[str, Any]]:
    """Letters of all tenants, decrypted. In the place of what does not open stands why."""
    vault = vault_of(tx)
    found = queries.rows(
        "dead_letters", tx, "newest", graph_id=graph_id, run_id=run_id, limit=limit
    )
    return [_opened(vault, row) for row in found]


def _opened(vault: Vault, row: Row) -> dict[str, Any]:
    at, text = ("run", row["run_id"]), row["traceback"]
    kwargs, error = row["kwargs"], row["last_error"]
    return {
        **row,
        "kwargs": _read(lambda: vault.open_json(kwargs, *at, "kwargs")),
        "last_error": _read(lambda: vault.open_json(error, *at, "error", may_be_plain=True)),
        "traceback": text and _read(lambda: vault.open_text(text, *at, "traceback")),
    }


def _read(field: Callable[[], Any]) -> Any:
    try:
        return field()
    except (Undecipherable, EncryptionFailed) as error:
        return {"unreadable": str(error)}
