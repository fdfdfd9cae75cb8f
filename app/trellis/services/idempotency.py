"""Creates that happen once, however often they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trellis.db import idempotency as rows
from trellis.db.engine import Tx
from trellis.domain.idempotency import Key
from trellis.runtime import Runtime

Row = Mapping[str, Any]


def once(
    rt: Runtime,
    tenant_id: str,
    key: Key | None,
    *,
    prepare: Callable[[], Callable[[Tx], Sequence[Row]]],
    opened: Callable[[Row], Row],
) -> tuple[Sequence[Row], bool]:
    """
    Make rows in the transaction that takes the key. The flag says that they were made before.

    `prepare` does what takes its time and must not lock anything (hooks, encryption), if they were not. What it
    returns makes them, and tells them as they are stored, which is also how they are remembered; `opened` decrypts
    them. A create that fails takes no key. Without a key they are made each time.

    :raises Conflict: the key stands for another request.
    """
    made = _before(rt, tenant_id, key)
    is_replay = made is not None
    if made is None:
        made, is_replay = _make(rt, tenant_id, key, prepare())
    return [opened(row) for row in made], is_replay


def _before(rt: Runtime, tenant_id: str, key: Key | None) -> Sequence[Row] | None:
    if key is None:
        return None
    with rt.autocommit.connect() as tx:
        return rows.find(tx, tenant_id, key)


def _make(
    rt: Runtime, tenant_id: str, key: Key | None, make: Callable[[Tx], Sequence[Row]]
) -> tuple[Sequence[Row], bool]:
    with rt.engine.begin() as tx:
        if key is None:
            return make(tx), False
        before = rows.reserve(tx, tenant_id, key)
        if before is not None:
            return before, True
        made = make(tx)
        rows.keep(tx, tenant_id, key, made)
    return made, False
