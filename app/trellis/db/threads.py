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
from trellis.db.access import meets
from trellis.db.engine import Tx
from trellis.db.queries import Row
from trellis.db.statements import sql
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


def insert(
    tx: Tx, tenant_id: str, *, thread_id: str, metadata: Mapping[str, Any], ttl: Ttl | None
) -> Row | None:
    """Make a thread. None means that one with this id exists already."""
    return _row(
        tx,
        "insert",
        thread_id=thread_id,
        tenant_id=tenant_id,
        metadata=_json(metadata),
        ttl_strategy=ttl.strategy if ttl else None,
        ttl_minutes=ttl.minutes if ttl else None,
    )


def get(tx: Tx, tenant_id: str, *, thread_id: str) -> Row | None:
    """The thread; None means there is none, or it belongs to somebody else."""
    return _row(tx, "get", thread_id=thread_id, tenant_id=tenant_id)


def patch(
    tx: Tx, tenant_id: str, *, thread_id: str, metadata: Mapping[str, Any], ttl: Ttl | None
) -> Row | None:
    """Merge metadata and restart the time to live. None means there is no such thread."""
    return _row(
        tx,
        "patch",
        thread_id=thread_id,
        tenant_id=tenant_id,
        metadata=_json(metadata),
        ttl_strategy=ttl.strategy if ttl else None,
        ttl_minutes=ttl.minutes if ttl else None,
    )


def exists(tx: Tx, tenant_id: str, thread_id: str) -> bool:
    """Whether there is such a thread for clients of the tenant."""
    row = _row(tx, "exists", thread_id=thread_id, tenant_id=tenant_id)
    return bool(row and row["found"])


def basis(tx: Tx, tenant_id: str, thread_id: str) -> Row | None:
    """Metadata, config, fence and the runs in flight of a thread. None means there is no such thread."""
    return _row(tx, "basis", thread_id=thread_id, tenant_id=tenant_id)


def settle(tx: Tx, thread_id: str, *, status: str, interrupts: bytes) -> None:
    """Record what a locked thread is after its state was changed, and advance its fence."""
    _change(tx, "settle", thread_id=thread_id, status=status, interrupts=interrupts.decode())


def state_channels(tx: Tx, thread_ids: Sequence[str]) -> dict[str, Sequence[str] | str]:
    """The channels that are each thread's state; none of a thread whose graph no worker has loaded."""
    params = {"thread_ids": list(thread_ids)}
    rows = tx.exec_driver_sql(sql("threads", "state_channels"), params)
    return {thread_id: channels for thread_id, channels in rows if channels is not None}


def interrupts(tx: Tx, thread_id: str) -> list[Any]:
    """The questions that wait for a human."""
    row = _row(tx, "interrupts", thread_id=thread_id)
    return [question for asked in row["interrupts"].values() for question in asked] if row else []


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
    statement = _matching(select(_thread_id(), *_SHOWN), tenant_id, query)
    statement = statement.order_by(*_order(page))
    found = tx.execute(statement.limit(page.limit).offset(page.offset)).mappings().all()
    return cast("Sequence[Row]", found)


def find(
    tx: Tx, tenant_id: str, *, query: Query, limit: int, page: Page | None = None
) -> list[str]:
    """The ids of the first threads that match, in the order of the page, or in none."""
    statement = _matching(select(_thread_id()), tenant_id, query).limit(limit)
    if page is not None:
        statement = statement.order_by(*_order(page))
    return list(tx.execute(statement).scalars())


def count(tx: Tx, tenant_id: str, *, query: Query) -> int:
    """How many threads match."""
    statement = _matching(select(func.count()).select_from(_THREAD), tenant_id, query)
    return cast(int, tx.execute(statement).scalar_one())


def _order(page: Page) -> list[Any]:
    columns = [_THREAD.c[name] for name in dict.fromkeys((page.sort_by, "thread_id"))]
    return [col.asc() if page.sort_order == "asc" else col.desc() for col in columns]


def _thread_id() -> Any:
    return _THREAD.c.thread_id.cast(Text).label("thread_id")


def _matching(statement: Select[Any], tenant_id: str, query: Query) -> Select[Any]:
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
    return row


def storage(tx: Tx, thread_id: str) -> Row:
    """How many rows and bytes a thread's checkpoints, values and pending writes take."""
    row = _row(tx, "storage", thread_id=thread_id)
    assert row is not None
    return row
