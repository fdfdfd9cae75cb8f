"""Rows of idempotency keys: which create a key stands for, and what it was answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from trellis.db.engine import Tx
from trellis.db.queries import execute
from trellis.db.vault import vault_of
from trellis.domain.idempotency import Key
from trellis.errors import Conflict

Row = Mapping[str, Any]


def reserve(tx: Tx, tenant_id: str, key: Key) -> list[Row] | None:
    """
    Take a key for the create that this transaction makes; whoever else wants it waits for its end.

    None means it is ours; otherwise what the first create with it made.

    :raises Conflict: it stands for another request.
    """
    params = {"tenant_id": tenant_id, "key": key.text}
    if execute(tx, "idempotency", "reserve", {**params, "fingerprint": key.fingerprint}).first():
        return None
    fingerprint, answer = execute(tx, "idempotency", "find", params).one()
    if fingerprint != key.fingerprint:
        raise Conflict(
            "Idempotency-Key was used for another request (method, path or body differ). Use a new key."
        )
    made = vault_of(tx).open_json(answer, "idempotency", tenant_id, key.text, "answer")
    # Where it is not encrypted it is the list itself.
    return [_thawed(row) for row in (made["made"] if isinstance(made, dict) else made)]


def keep(tx: Tx, tenant_id: str, key: Key, made: Sequence[Row]) -> None:
    """Remember what a reserved key's create has made."""
    vault, rows = vault_of(tx), [dict(row) for row in made]
    answer = orjson.dumps({"made": rows} if vault.is_on else rows).decode()
    sealed = vault.seal_json(answer, "idempotency", tenant_id, key.text, "answer")
    execute(tx, "idempotency", "keep", {"tenant_id": tenant_id, "key": key.text, "answer": sealed})


def sweep(tx: Tx, *, limit: int) -> int:
    """Forget keys past their time. Returns how many."""
    return execute(tx, "idempotency", "sweep", {"limit": limit}).rowcount


def _thawed(row: Row) -> Row:
    """JSON has no times: they are the columns that are called so."""
    return {
        name: datetime.fromisoformat(value) if name.endswith("_at") and value else value
        for name, value in row.items()
    }
