"""Copies of encrypted threads: each value is bound to its thread, so it is opened, and sealed for the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trellis.db.checkpoints import places
from trellis.db.checkpoints.codec import to_json
from trellis.db.checkpoints.rows import BlobRow, CheckpointRow, Rows, WriteRow, insert
from trellis.db.engine import Tx
from trellis.db.statements import sql
from trellis.db.vault import Vault, vault_of

#: Rows in memory at once.
_BATCH = 200

Row = Sequence[Any]


def copy_opened(tx: Tx, source: str, target: str) -> None:
    """Give the target thread everything that the source has stored. The copies belong to no run."""
    vault = vault_of(tx)
    for statement, width, opened in (
        ("next_blobs", 3, _blob),
        ("next_checkpoints", 2, _checkpoint),
        ("next_writes", 4, _write),
    ):
        for batch in _batches(tx, statement, source, width=width):
            rows = Rows()
            for row in batch:
                rows.extend(opened(vault, source, target, row))
            insert(tx, rows)


def _batches(tx: Tx, statement: str, source: str, *, width: int) -> Iterator[Sequence[Row]]:
    """All rows, some at a time. `width`: how many columns are their key within the thread."""
    after: list[str] | None = None
    while True:
        params = {"thread_id": source, "after": after, "limit": _BATCH}
        batch = tx.exec_driver_sql(sql("checkpoints", statement), params).all()
        if batch:
            yield batch
        if len(batch) < _BATCH:
            return
        after = [str(part) for part in batch[-1][:width]]


def _blob(vault: Vault, source: str, target: str, row: Row) -> Rows:
    ns, channel, version, kind, base, data = row
    opened = vault.open(data, *places.of_blob(source, ns, channel, version, kind, base))
    return Rows(blobs=[BlobRow(target, ns, channel, version, kind, base, opened)])


def _checkpoint(vault: Vault, source: str, target: str, row: Row) -> Rows:
    ns, checkpoint_id, parent, sealed, metadata = row
    body = vault.open(sealed, *places.of_body(source, ns, checkpoint_id))
    shown = to_json(vault.show(metadata, model="checkpoint"))
    made = CheckpointRow(target, ns, checkpoint_id, parent, None, None, body, shown)
    return Rows(checkpoints=[made])


def _write(vault: Vault, source: str, target: str, row: Row) -> Rows:
    ns, checkpoint_id, task_id, idx, channel, kind, data, path = row
    where = places.of_write(source, ns, checkpoint_id, task_id, idx, channel, kind)
    opened = vault.open(data, *where)
    return Rows(
        writes=[WriteRow(target, ns, checkpoint_id, task_id, idx, channel, kind, opened, path)]
    )
