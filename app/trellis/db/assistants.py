"""Rows of assistants, and of the graphs that workers have loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, cast

import orjson
from sqlalchemy import Select, column, func, select, table
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.types import DateTime, Integer, Text

from trellis.db import queries
from trellis.db.access import check_readable, meets
from trellis.db.engine import Tx
from trellis.db.queries import Row
from trellis.db.statements import sql
from trellis.db.vault import Vault, vault_of
from trellis.domain.access import Condition
from trellis.domain.ids import default_assistant_id
from trellis.domain.pages import Page

_rows = partial(queries.rows, "assistants")
_row = partial(queries.row, "assistants")
_run = partial(queries.change, "assistants")

_ASSISTANT = table(
    "assistant",
    column("assistant_id", UUID(as_uuid=False)),
    column("tenant_id", Text),
    column("graph_id", Text),
    column("config", JSONB),
    column("context", JSONB),
    column("metadata", JSONB),
    column("name", Text),
    column("created_at", DateTime),
    column("updated_at", DateTime),
    column("version", Integer),
    column("description", Text),
)
_HIDDEN = ("config", "context", "metadata")
_SHOWN = [col for name, col in _ASSISTANT.c.items() if name not in ("assistant_id", "tenant_id")]


class Graph(Protocol):
    """What the manifest says of a graph."""

    @property
    def graph_id(self) -> str: ...

    @property
    def description(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which assistants are meant. Empty conditions mean all."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    graph_id: str | None = None
    name: str | None = None  #: any part of the name, in any case
    allowed: Condition | None = None  #: what the metadata must meet for whoever asks


def ensure_default(tx: Tx, tenant_id: str, graph: Graph) -> None:
    """Make the assistant that a graph has by itself; one that nobody has changed gets the graph's description."""
    params = {
        "assistant_id": default_assistant_id(graph.graph_id, tenant_id),
        "tenant_id": tenant_id,
        "graph_id": graph.graph_id,
        "description": graph.description,
    }
    tx.exec_driver_sql(sql("assistants", "ensure_default"), params)


def get(tx: Tx, tenant_id: str, *, assistant_id: str) -> Row | None:
    """The assistant; None means there is none, or it belongs to somebody else."""
    row = _row(tx, "get", assistant_id=assistant_id, tenant_id=tenant_id)
    return row and opened(vault_of(tx), row)


def opened(vault: Vault, row: Row, *, at: str | None = None) -> Row:
    """A stored assistant with what of it is encrypted. `at`: it is a row of that table."""
    columns = {name: f"assistant {name}" for name in _HIDDEN}
    return vault.show_columns(row, at=at, **columns) if vault.is_on else row


def sealed(vault: Vault, fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    Fields of an assistant as they are stored. Handlers take their time: before the transaction that stores them.

    :raises EncryptionFailed: one failed.
    """
    hidden = {
        name: vault.hide(fields[name], model="assistant", field=name)
        for name in _HIDDEN
        if name in fields
    }
    return {**fields, **hidden}


def insert(tx: Tx, tenant_id: str, *, assistant_id: str, fields: Mapping[str, Any]) -> Row | None:
    """Make an assistant of sealed fields, with its first version. None means that one with this id exists already."""
    return _row(tx, "insert", assistant_id=assistant_id, tenant_id=tenant_id, **_encoded(fields))


def lock(tx: Tx, tenant_id: str, *, assistant_id: str) -> Row | None:
    """The stored assistant, locked until the commit; None means there is none, or it belongs to somebody else."""
    return _row(tx, "lock", assistant_id=assistant_id, tenant_id=tenant_id)


def change(tx: Tx, assistant_id: str, fields: Mapping[str, Any]) -> Row:
    """Give a locked assistant its next version, of sealed fields; metadata is merged into what is there."""
    row = _row(tx, "change", assistant_id=assistant_id, **_encoded(fields))
    assert row is not None
    return row


def set_latest(tx: Tx, assistant_id: str, *, version: int) -> Row | None:
    """Make a locked assistant what a version of it is. None means there is no such version."""
    return _row(tx, "set_latest", assistant_id=assistant_id, version=version)


def versions(
    tx: Tx, assistant_id: str, *, metadata: Mapping[str, Any], limit: int, offset: int
) -> Sequence[Row]:
    """A page of an assistant's versions, newest first."""
    vault = vault_of(tx)
    vault.check_search(metadata, model="assistant")
    found = _rows(
        tx,
        "versions",
        assistant_id=assistant_id,
        metadata=_json(metadata),
        limit=limit,
        offset=offset,
    )
    return [opened(vault, row, at="assistant_version") for row in found]


def delete(tx: Tx, assistant_id: str) -> None:
    """Delete a locked assistant with its versions and crons."""
    _run(tx, "delete", assistant_id=assistant_id)


def graph(tx: Tx, graph_id: str) -> Row | None:
    """What workers published of a graph; None means that none has tried to load it yet."""
    return _row(tx, "graph", graph_id=graph_id)


def search(tx: Tx, tenant_id: str, *, query: Query, page: Page) -> Sequence[Row]:
    """One page of the assistants that match."""
    order = _ASSISTANT.c[page.sort_by]
    tie = _ASSISTANT.c.assistant_id
    assistant_id = _ASSISTANT.c.assistant_id.cast(Text).label("assistant_id")
    check_readable(tx, "assistants", query.metadata, query.allowed)
    statement = _matching(select(assistant_id, *_SHOWN), tenant_id, query).order_by(
        *((order.asc(), tie.asc()) if page.sort_order == "asc" else (order.desc(), tie.desc()))
    )
    found = tx.execute(statement.limit(page.limit).offset(page.offset)).mappings().all()
    return [opened(vault_of(tx), cast(Row, row)) for row in found]


def count(tx: Tx, tenant_id: str, *, query: Query) -> int:
    """How many assistants match."""
    check_readable(tx, "assistants", query.metadata, query.allowed)
    statement = _matching(select(func.count()).select_from(_ASSISTANT), tenant_id, query)
    return cast(int, tx.execute(statement).scalar_one())


def _matching(statement: Select[Any], tenant_id: str, query: Query) -> Select[Any]:
    statement = statement.where(
        _ASSISTANT.c.tenant_id == tenant_id, meets(_ASSISTANT.c.metadata, query.allowed)
    )
    if query.metadata:
        statement = statement.where(_ASSISTANT.c.metadata.contains(query.metadata))
    if query.graph_id is not None:
        statement = statement.where(_ASSISTANT.c.graph_id == query.graph_id)
    if query.name is not None:
        statement = statement.where(_ASSISTANT.c.name.icontains(query.name, autoescape=True))
    return statement


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


def _encoded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an assistant that a client may set, as parameters."""
    plain = {name: fields[name] for name in ("graph_id", "name", "description")}
    return {**plain, **{name: _json(fields[name]) for name in _HIDDEN}}
