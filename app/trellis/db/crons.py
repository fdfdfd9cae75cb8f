"""Rows of crons: made and changed by services, fired by whichever worker looks first.

Lock order: thread, cron, run. Time is the database's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, cast

import orjson
from sqlalchemy import Select, column, func, select, table
from sqlalchemy.dialects.postgresql import JSON, JSONB, UUID
from sqlalchemy.types import Boolean, DateTime, Text

from trellis.db import queries
from trellis.db.access import check_readable, meets
from trellis.db.engine import Tx
from trellis.db.queries import Row
from trellis.db.vault import Vault, check_unsealed, vault_of
from trellis.domain.access import Condition
from trellis.domain.pages import Page

_CRON = table(
    "cron",
    column("cron_id", UUID(as_uuid=False)),
    column("tenant_id", Text),
    column("assistant_id", UUID(as_uuid=False)),
    column("thread_id", UUID(as_uuid=False)),
    column("schedule", Text),
    column("timezone", Text),
    column("end_time", DateTime),
    column("next_run_at", DateTime),
    column("enabled", Boolean),
    column("on_run_completed", Text),
    column("metadata", JSONB),
    column("payload", JSON),
    column("run", JSON),
    column("created_at", DateTime),
    column("updated_at", DateTime),
)
_IDS = ("cron_id", "assistant_id", "thread_id")
_SHOWN = [
    *(_CRON.c[name].cast(Text).label(name) for name in _IDS),
    *(col for name, col in _CRON.c.items() if name not in (*_IDS, "tenant_id", "end_time", "run")),
    func.coalesce(_CRON.c.run.op("#>>")("{user,identity}"), "").label("user_id"),
]
_SEALED = ("payload", "run")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which crons are meant. Empty conditions mean all."""

    assistant_id: str | None = None
    thread_id: str | None = None
    enabled: bool | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    allowed: Condition | None = None  #: what the metadata must meet for whoever asks


_rows = partial(queries.rows, "crons")
_row = partial(queries.row, "crons")
_change = partial(queries.change, "crons")


def sealed(vault: Vault, values: Mapping[str, Any]) -> dict[str, Any]:
    """
    What a client decides about a cron, as it is stored. Handlers take their time: before the transaction that stores it.

    :raises Invalid: its data pretends to be encrypted.
    :raises EncryptionFailed: a handler failed.
    """
    check_unsealed(values["payload"])
    encoded = {name: _sealed(vault, values, name) for name in _SEALED}
    return {**values, "metadata": _json(vault.hide(values["metadata"], model="cron")), **encoded}


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _sealed(vault: Vault, values: Mapping[str, Any], name: str) -> str | None:
    value = values[name]
    sealed = vault.seal_json(_json(value), "cron", values["cron_id"], name)
    if name != "run" or not vault.is_on:
        return sealed
    # Whose it is, statements read, too.
    made = orjson.loads(sealed or "{}")
    identity = {"identity": value["user"]["identity"]} if value["user"] else {}
    return _json({**made, "user": {**(made.get("user") or {}), **identity} or None})


def opened(vault: Vault, row: Row) -> Row:
    """A stored cron with what of it is encrypted."""
    found = {
        name: vault.open_json(row[name], "cron", row["cron_id"], name)
        for name in _SEALED
        if name in row
    }
    return {**vault.show_columns(row, metadata="cron metadata"), **found}


def hold_assistant(tx: Tx, tenant_id: str, assistant_id: str) -> bool:
    """Keep an assistant from being deleted until the commit. False means that the tenant has none with this id."""
    return bool(_row(tx, "hold_assistant", tenant_id=tenant_id, assistant_id=assistant_id))


def hold_thread(tx: Tx, tenant_id: str, thread_id: str) -> bool:
    """Keep a thread from being deleted until the commit. False means that the tenant has none with this id."""
    return bool(_row(tx, "hold_thread", tenant_id=tenant_id, thread_id=thread_id))


def now(tx: Tx) -> datetime:
    """The database's clock."""
    return cast(datetime, cast(Row, _row(tx, "now"))["now"])


def insert(tx: Tx, tenant_id: str, values: Mapping[str, Any]) -> Row:
    """Make a cron of sealed values. Returns it as it is stored."""
    return cast(Row, _row(tx, "insert", tenant_id=tenant_id, **values))


def get(tx: Tx, tenant_id: str, cron_id: str) -> Row | None:
    """The cron; None means there is none, or it belongs to somebody else."""
    row = _row(tx, "get", tenant_id=tenant_id, cron_id=cron_id)
    return row and opened(vault_of(tx), row)


def lock(tx: Tx, tenant_id: str, cron_id: str) -> Row | None:
    """When the cron runs, locked until the commit, when it was changed, and what time it is."""
    return _row(tx, "lock", tenant_id=tenant_id, cron_id=cron_id)


def update(tx: Tx, tenant_id: str, values: Mapping[str, Any]) -> Row:
    """Change a locked cron to sealed values. Returns it as it is stored."""
    return cast(Row, _row(tx, "update", tenant_id=tenant_id, **values))


def delete(tx: Tx, tenant_id: str, cron_id: str) -> bool:
    """Delete a cron; its runs stay. False means there is none."""
    return bool(_change(tx, "delete", tenant_id=tenant_id, cron_id=cron_id))


def search(tx: Tx, tenant_id: str, *, query: Query, page: Page) -> Sequence[Row]:
    """One page of the crons that match; those without the sorted value come last."""
    order, tie = _CRON.c[page.sort_by], _CRON.c.cron_id
    statement = _matching(tx, select(*_SHOWN), tenant_id, query).order_by(
        *(
            (order.asc().nulls_last(), tie.asc())
            if page.sort_order == "asc"
            else (order.desc().nulls_last(), tie.desc())
        )
    )
    found = tx.execute(statement.limit(page.limit).offset(page.offset)).mappings().all()
    return [opened(vault_of(tx), cast(Row, row)) for row in found]


def count(tx: Tx, tenant_id: str, *, query: Query) -> int:
    """How many crons match."""
    statement = _matching(tx, select(func.count()).select_from(_CRON), tenant_id, query)
    return cast(int, tx.execute(statement).scalar_one())


def _matching(tx: Tx, statement: Select[Any], tenant_id: str, query: Query) -> Select[Any]:
    check_readable(tx, "crons", query.metadata, query.allowed)
    statement = statement.where(
        _CRON.c.tenant_id == tenant_id, meets(_CRON.c.metadata, query.allowed)
    )
    if query.assistant_id is not None:
        statement = statement.where(_CRON.c.assistant_id == query.assistant_id)
    if query.thread_id is not None:
        statement = statement.where(_CRON.c.thread_id == query.thread_id)
    if query.enabled is not None:
        statement = statement.where(_CRON.c.enabled == query.enabled)
    if query.metadata:
        statement = statement.where(_CRON.c.metadata.contains(query.metadata))
    return statement


# Firing: any process may, no leader


def due(tx: Tx, *, limit: int) -> Sequence[Row]:
    """Crons to be fired, of all tenants: candidates for `take`, one transaction each."""
    return _rows(tx, "due", limit=limit)


def due_one(tx: Tx, cron_id: str) -> Row | None:
    """A cron that is due. None means that it is not any more."""
    row = _row(tx, "due_one", cron_id=cron_id)
    return row and opened(vault_of(tx), row)


def take(tx: Tx, cron_id: str, thread_id: str | None, *, as_of: Row) -> datetime | None:
    """
    Lock a cron that is due, and its thread. Returns what time it is.

    None means that somebody else is at it, has fired it, or has changed it since it was looked at.
    """
    if thread_id is not None and not _row(tx, "take_thread", thread_id=thread_id):
        return None
    seen = {name: as_of[name] for name in ("next_run_at", "updated_at")}
    row = _row(tx, "take", cron_id=cron_id, **seen)
    return row["now"] if row else None


def stamp(tx: Tx, cron_id: str, run_id: str, *, tick: datetime | None) -> None:
    """Note whose run it is. :raises IntegrityError: the tick has one already."""
    _change(tx, "stamp", cron_id=cron_id, run_id=run_id, tick=tick)


def advance(tx: Tx, cron_id: str, *, to: datetime | None, error: str | None) -> None:
    """Set the next tick of a cron that was taken; None: it never comes again."""
    _change(tx, "advance", cron_id=cron_id, next_run_at=to, error=error)


def postpone(tx: Tx, cron_id: str, *, updated_at: datetime, error: str) -> None:
    """Look at a cron again later; its tick stays due. Nothing happens to one that was changed since `updated_at`."""
    _change(tx, "postpone", cron_id=cron_id, updated_at=updated_at, error=error)
