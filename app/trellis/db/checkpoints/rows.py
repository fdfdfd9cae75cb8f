"""The rows of checkpoints, and how rows of many runs go into the tables at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson

from trellis.db.checkpoints import places
from trellis.db.engine import Tx
from trellis.db.queries import execute
from trellis.db.vault import Vault, vault_of


class CheckpointRow(NamedTuple):
    """A checkpoint without its channel values."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_checkpoint_id: str | None
    run_id: str | None
    fence: int | None  #: None: written by no run's claim
    body: bytes
    metadata: str


class BlobRow(NamedTuple):
    """The value of a channel at a version; with a base_version, what was appended since that one."""

    thread_id: str
    checkpoint_ns: str
    channel: str
    version: str
    type: str
    base_version: str | None
    data: bytes


class WriteRow(NamedTuple):
    """What one task wrote, before a checkpoint took it up."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    task_id: str
    idx: int  #: below 0: an error, an interrupt or a resume; the last one counts
    channel: str
    type: str
    data: bytes
    task_path: str
    run_id: str | None = None  #: None: written by no run's claim


@dataclass
class Rows:
    """Rows that belong together: they are committed together or not at all."""

    checkpoints: list[CheckpointRow] = field(default_factory=list)
    blobs: list[BlobRow] = field(default_factory=list)
    writes: list[WriteRow] = field(default_factory=list)
    partial: bool = False  #: a later attempt cannot go on from these rows
    is_sealed: bool = False  #: encrypted already
    context: Mapping[str, Any] = field(default_factory=dict)  #: what encryption handlers are told

    def namespaces(self) -> set[str]:
        """Of the checkpoints and writes."""
        return {row.checkpoint_ns for row in self.checkpoints} | {
            row.checkpoint_ns for row in self.writes
        }

    def extend(self, other: Rows) -> None:
        self.checkpoints.extend(other.checkpoints)
        self.blobs.extend(other.blobs)
        self.writes.extend(other.writes)


def insert(tx: Tx, rows: Rows) -> None:
    """Store rows, of however many runs, in at most three statements; encrypted, if the engine has a key."""
    rows = sealed(rows, vault_of(tx))
    _insert(tx, "insert_blobs", BlobRow._fields, rows.blobs)
    _insert(tx, "insert_checkpoints", CheckpointRow._fields, _last(rows.checkpoints))
    _insert(tx, "insert_writes", WriteRow._fields, _settled(rows.writes))


def _insert(tx: Tx, statement: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        columns = map(list, zip(*rows, strict=True))
        execute(tx, "checkpoints", statement, dict(zip(names, columns, strict=True)))


def sealed(rows: Rows, vault: Vault) -> Rows:
    """
    The rows as they are stored.

    :raises EncryptionFailed: a handler failed.
    """
    if rows.is_sealed or not vault.is_on:
        return rows
    rows = _by_hand(rows, vault)
    return Rows(
        [
            row._replace(
                body=vault.seal(row.body, *places.of_body(*row[:3])),
                metadata=hidden(row.metadata, vault, told=rows.context),
            )
            for row in rows.checkpoints
        ],
        [row._replace(data=vault.seal(row.data, *places.of_blob(*row[:6]))) for row in rows.blobs],
        [
            row._replace(data=vault.seal(row.data, *places.of_write(*row[:7])))
            for row in rows.writes
        ],
        partial=rows.partial,
        is_sealed=True,
    )


def _by_hand(rows: Rows, vault: Vault) -> Rows:
    """The values as handlers make them, all at once."""
    if vault.handlers is None or not vault.handlers.has_blobs:
        return rows
    data = [*(row.data for row in rows.blobs), *(row.data for row in rows.writes)]
    made = iter(vault.handlers.seal_blobs([(each, rows.context) for each in data]))
    blobs = [row._replace(data=next(made)) for row in rows.blobs]
    writes = [row._replace(data=next(made)) for row in rows.writes]
    return replace(rows, blobs=blobs, writes=writes)


def hidden(metadata: str, vault: Vault, *, told: Mapping[str, Any] | None = None) -> str:
    """The JSON of a checkpoint's metadata as it is stored."""
    if not vault.is_on:
        return metadata
    return orjson.dumps(vault.hide(orjson.loads(metadata), model="checkpoint", told=told)).decode()


def _last(rows: Iterable[CheckpointRow]) -> list[CheckpointRow]:
    """One row per key: Postgres refuses to upsert a row twice in one statement."""
    return list({row[:3]: row for row in rows}.values())


def _settled(rows: Iterable[WriteRow]) -> list[WriteRow]:
    """One row per key: the first of a task's ordinary writes, the last of its special ones."""
    found: dict[tuple[Any, ...], WriteRow] = {}
    for row in rows:
        if row.idx < 0:
            found[row[:5]] = row
        else:
            found.setdefault(row[:5], row)
    return list(found.values())
