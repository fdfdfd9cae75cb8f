"""Rows of threads, as clients see them: the temporary threads of stateless runs are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import orjson
from sqlalchemy import Select, column, func, select, table
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.types import Boolean, DateTime, Double, Text

from trellis.db import queries
from trellis.db.access import check_readable, meets
from trellis.db.checkpoints import State
from trellis.db.engine import Tx
from trellis.db.queries import Row
from trellis.db.statements import sql
from trellis.db.vault import Vault, is_bound, vault_of
from trellis.domain.access import Condition
from trellis.domain.pages import Page
from trellis.domain.ttl import Ttl

_rows = partial(queries.rows, "threads")
_row = partial(queries.row, "threads")
_change = partial(queries.change, "threads")

_THREAD = table(
    "thread",
    column("thread_id", UUID(as_uuid=False)),
    column("tenant_id", Text),
    column("temporary", Boolean),
    column("created_at", DateTime),
    column("updated_at", DateTime),
    column("state_updated_at", DateTime),
    column("metadata", JSONB),
    column("status", Text),
    column("config", JSONB),
    column("error", JSONB),
    column("interrupts", JSONB),
    column("ttl_strategy", Text),
    column("ttl_minutes", Double),
    column("expires_at", DateTime),
)
_SHOWN = [
    col for name, col in _THREAD.c.items() if name not in ("thread_id", "tenant_id", "temporary")
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which threads are meant. Empty conditions mean all."""

    ids: Sequence[str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    status: str | None = None
    allowed: Condition | None = None  #: what the metadata must meet for whoever asks
    #: Contained in the thread's values. Not for this module: only reading them tells.
    values: Mapping[str, Any] = field(default_factory=dict)


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


def sealed(vault: Vault, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    A thread's metadata as they are stored. Handlers take their time: before the transaction that stores them.

    :raises EncryptionFailed: one failed.
    """
    found: Mapping[str, Any] = vault.hide(metadata, model="thread")
    return found


def insert(
    tx: Tx, tenant_id: str, *, thread_id: str, metadata: Mapping[str, Any], ttl: Ttl | None
) -> Row | None:
    """Make a thread of sealed metadata. None means that one with this id exists already."""
    return _changed(tx, "insert", tenant_id, thread_id, metadata, ttl)


def _changed(
    tx: Tx,
    statement: str,
    tenant_id: str,
    thread_id: str,
    metadata: Mapping[str, Any],
    ttl: Ttl | None,
) -> Row | None:
    return _row(
        tx,
        statement,
        thread_id=thread_id,
        tenant_id=tenant_id,
        metadata=_json(metadata),
        ttl_strategy=ttl.strategy if ttl else None,
        ttl_minutes=ttl.minutes if ttl else None,
    )


def opened(vault: Vault, row: Row, *, thread_id: str | None = None) -> Row:
    """A stored thread with what of it is encrypted; for another thread, if it was copied from there just now."""
    where = ("thread", thread_id or row["thread_id"])
    return {
        **vault.show_columns(row, metadata="thread metadata", config="thread config"),
        "error": vault.open_json(row["error"], *where, "error", may_be_plain=True),
        "interrupts": vault.open_json(row["interrupts"], *where, "interrupts", may_be_plain=True),
    }


def get(tx: Tx, tenant_id: str, *, thread_id: str) -> Row | None:
    """The thread; None means there is none, or it belongs to somebody else."""
    row = stored(tx, tenant_id, thread_id=thread_id)
    return row and opened(vault_of(tx), row)


def stored(tx: Tx, tenant_id: str, *, thread_id: str) -> Row | None:
    """The same as it is stored, which `opened` decrypts."""
    return _row(tx, "get", thread_id=thread_id, tenant_id=tenant_id)


def patch(
    tx: Tx, tenant_id: str, *, thread_id: str, metadata: Mapping[str, Any], ttl: Ttl | None
) -> Row | None:
    """Merge sealed metadata and restart the time to live. None means there is no such thread."""
    return _changed(tx, "patch", tenant_id, thread_id, metadata, ttl)


def exists(tx: Tx, tenant_id: str, thread_id: str) -> bool:
    """Whether there is such a thread for clients of the tenant."""
    row = _row(tx, "exists", thread_id=thread_id, tenant_id=tenant_id)
    return bool(row and row["found"])


def basis(tx: Tx, tenant_id: str, thread_id: str) -> Row | None:
    """Fence and runs in flight of a thread; metadata and config as stored. None means there is no such thread."""
    return _row(tx, "basis", thread_id=thread_id, tenant_id=tenant_id)


def shown_basis(vault: Vault, row: Row) -> Row:
    """The same with what of it is encrypted."""
    return vault.show_columns(row, metadata="thread metadata", config="thread config")


def sealed_interrupts(vault: Vault, thread_id: str, interrupts: str) -> str:
    """The questions that wait on a thread, as they are stored. :raises EncryptionFailed: a handler failed."""
    return cast(str, vault.seal_json(interrupts, "thread", thread_id, "interrupts"))


def settle(tx: Tx, thread_id: str, *, status: str, interrupts: str) -> None:
    """Record what a locked thread is after its state was changed, and advance its fence."""
    _change(tx, "settle", thread_id=thread_id, status=status, interrupts=interrupts)


def states(tx: Tx, thread_ids: Sequence[str]) -> dict[str, State]:
    """What is known of each thread's state; nothing of a thread whose graph no worker has loaded."""
    params = {"thread_ids": list(thread_ids)}
    rows = tx.exec_driver_sql(sql("threads", "states"), params)
    return {thread_id: State(*known) for thread_id, *known in rows if known[0] is not None}


def interrupts(tx: Tx, thread_id: str) -> list[Any]:
    """The questions that wait for a human."""
    row = _row(tx, "interrupts", thread_id=thread_id)
    if row is None:
        return []
    where = ("thread", thread_id, "interrupts")
    found = vault_of(tx).open_json(row["interrupts"], *where, may_be_plain=True)
    return [question for asked in found.values() for question in asked]


def has_checkpoints(tx: Tx, thread_id: str) -> bool:
    """Whether anything was ever saved on the thread."""
    row = _row(tx, "has_checkpoints", thread_id=thread_id)
    return bool(row and row["found"])


def has_checkpoint(tx: Tx, thread_id: str, checkpoint_id: str) -> bool:
    """Whether the thread's graph, and not a subgraph of it, was saved with this id."""
    row = _row(tx, "has_checkpoint", thread_id=thread_id, checkpoint_id=checkpoint_id)
    return bool(row and row["found"])


def search(tx: Tx, tenant_id: str, *, query: Query, page: Page) -> Sequence[Row]:
    """One page of the threads that match."""
    statement = _matching(tx, select(_thread_id(), *_SHOWN), tenant_id, query)
    statement = statement.order_by(*_order(page))
    found = tx.execute(statement.limit(page.limit).offset(page.offset)).mappings().all()
    return [opened(vault_of(tx), cast(Row, row)) for row in found]


def find(
    tx: Tx, tenant_id: str, *, query: Query, limit: int, page: Page | None = None
) -> list[str]:
    """The ids of the first threads that match, in the order of the page, or in none."""
    statement = _matching(tx, select(_thread_id()), tenant_id, query).limit(limit)
    if page is not None:
        statement = statement.order_by(*_order(page))
    return list(tx.execute(statement).scalars())


def count(tx: Tx, tenant_id: str, *, query: Query) -> int:
    """How many threads match. How many there are is known without counting."""
    if query == Query():
        row = _row(tx, "total", tenant_id=tenant_id)
        return int(row["threads"]) if row else 0
    statement = _matching(tx, select(func.count()).select_from(_THREAD), tenant_id, query)
    return cast(int, tx.execute(statement).scalar_one())


def add_up(tx: Tx, *, limit: int) -> None:
    """Add changes of the number of threads to the totals."""
    _change(tx, "add_up", limit=limit)


def _order(page: Page) -> list[Any]:
    columns = [_THREAD.c[name] for name in dict.fromkeys((page.sort_by, "thread_id"))]
    return [col.asc() if page.sort_order == "asc" else col.desc() for col in columns]


def _thread_id() -> Any:
    return _THREAD.c.thread_id.cast(Text).label("thread_id")


def _matching(tx: Tx, statement: Select[Any], tenant_id: str, query: Query) -> Select[Any]:
    check_readable(tx, "threads", query.metadata, query.allowed)
    statement = statement.where(
        _THREAD.c.tenant_id == tenant_id,
        ~_THREAD.c.temporary,
        meets(_THREAD.c.metadata, query.allowed),
    )
    if query.ids is not None:
        statement = statement.where(_THREAD.c.thread_id.in_(query.ids))
    if query.metadata:
        statement = statement.where(_THREAD.c.metadata.contains(query.metadata))
    if query.status is not None:
        statement = statement.where(_THREAD.c.status == query.status)
    return statement


def without_runs(tx: Tx, thread_ids: Sequence[str]) -> list[str]:
    """Those of locked threads on which no run is active."""
    rows = _rows(tx, "without_runs", thread_ids=list(thread_ids))
    return [row["thread_id"] for row in rows]


def copy(tx: Tx, source: str, target: str) -> Row:
    """Make a thread that is as a locked one is, without its runs and checkpoints."""
    row = _row(tx, "copy", source=source, target=target)
    assert row is not None
    vault = vault_of(tx)
    made = opened(vault, row, thread_id=source)
    columns = ("error", "interrupts")
    if any(is_bound(row[name]) for name in columns):
        kept = {
            name: vault.seal_json(_json(made[name]) if made[name] else None, "thread", target, name)
            for name in columns
        }
        _change(tx, "seal", thread_id=target, **{**kept, "interrupts": kept["interrupts"] or "{}"})
    return made


def storage(tx: Tx, thread_id: str) -> Row:
    """How many rows and bytes a thread's checkpoints, values and pending writes take."""
    row = _row(tx, "storage", thread_id=thread_id)
    assert row is not None
    return row
