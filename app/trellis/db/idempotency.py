"""Rows of idempotency keys: which create a key stands for, and what it was answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from trellis.db.engine import Tx
from trellis.db.queries import execute
from trellis.domain.idempotency import Key
from trellis.errors import Conflict

Row = Mapping[str, Any]


def reserve(tx: Tx, tenant_id: str, key: Key) -> list[Row] | None:
    """
    Take a key for the create that this transaction makes; whoever else wants it waits for its end.

    None means it is ours; otherwise what the first create with it made.

    :raises Conflict: it stands for another request.
    """
    params = {"tenant_id": tenant_id, "key": key.text, "fingerprint": key.fingerprint}
    if execute(tx, "idempotency", "reserve", params).first():
        return None
    fingerprint, answer, _ = execute(tx, "idempotency", "find", params).one()
    return _kept(key, fingerprint, answer)


def find(tx: Tx, tenant_id: str, key: Key) -> list[Row] | None:
    """
    What a create with this key has made, if it is committed. None: nobody has it now, or it is past its time.

    :raises Conflict: it stands for another request.
    """
    params = {"tenant_id": tenant_id, "key": key.text}
    found = execute(tx, "idempotency", "find", params).first()
    return None if found is None or found.is_past else _kept(key, found.fingerprint, found.answer)


def _kept(key: Key, fingerprint: str, answer: Sequence[Row]) -> list[Row]:
    if fingerprint != key.fingerprint:
        raise Conflict(
            "Idempotency-Key was used for another request (method, path or body differ). Use a new key."
        )
    return [_thawed(row) for row in answer]


def keep(tx: Tx, tenant_id: str, key: Key, made: Sequence[Row]) -> None:
    """Remember what a reserved key's create has made: rows as they are stored, so what is secret is encrypted."""
    answer = orjson.dumps([dict(row) for row in made]).decode()
    execute(tx, "idempotency", "keep", {"tenant_id": tenant_id, "key": key.text, "answer": answer})


def sweep(tx: Tx, *, limit: int) -> int:
    """Forget keys past their time. Returns how many."""
    return execute(tx, "idempotency", "sweep", {"limit": limit}).rowcount


def _thawed(row: Row) -> Row:
    """JSON has no times: they are the columns that are called so."""
    return {
        name: datetime.fromisoformat(value) if name.endswith("_at") and value else value
        for name, value in row.items()
    }
