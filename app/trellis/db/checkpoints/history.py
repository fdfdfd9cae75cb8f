"""Walks through a thread's checkpoints: pages of a list, and the ancestors that a DeltaChannel is rebuilt from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from trellis.db.checkpoints import places
from trellis.db.checkpoints.chain import Chain
from trellis.db.checkpoints.codec import unpack_body
from trellis.db.checkpoints.load import (
    HELD,
    Key,
    Stored,
    StoredWrite,
    blobs_of,
    fill,
    head,
    read_chains,
    read_writes,
)
from trellis.db.engine import Tx
from trellis.db.statements import sql
from trellis.db.vault import vault_of

#: Checkpoints per page: a reader that wants one does not wait for a thousand.
_PAGE = 25
#: Ancestors per step of a walk. A DeltaChannel stores its value at every 100th update unless told otherwise.
_STRIDE = 128


class Query(NamedTuple):
    """Which checkpoints to list. None: any."""

    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    filter: str | None = None  #: JSON that the metadata contains


def page(tx: Tx, query: Query, *, after: Stored | None, limit: int | None) -> list[Stored]:
    """The next checkpoints behind `after`, newest first. Fewer than `page_size`: there are no more."""
    last = (
        (after.checkpoint_id, after.thread_id, after.checkpoint_ns) if after else (None, None, None)
    )
    start = dict(zip(("last_id", "last_thread", "last_ns"), last, strict=True))
    asked = {**query._asdict(), **start, "limit": page_size(limit)}
    vault = vault_of(tx)
    if query.filter is not None:
        vault.check_search(orjson.loads(query.filter), model="checkpoint")
    rows = tx.exec_driver_sql(sql("checkpoints", "page"), asked)
    return fill(tx, [head(row, vault) for row in rows])


def page_size(limit: int | None) -> int:
    return _PAGE if limit is None else min(_PAGE, limit)


class Ancestor(NamedTuple):
    """A checkpoint on the way to the root: what it holds of the channels asked for, and what was written on it."""

    checkpoint_id: str
    values: dict[str, Any]  #: inline values by channel
    chains: dict[str, Chain]
    writes: Sequence[StoredWrite]
    held: Sequence[str] = ()  #: channels whose value is in the operator's own checkpointer


def ancestors(tx: Tx, key: Key, *, channels: Sequence[str]) -> Iterator[Ancestor]:
    """
    The checkpoint's ancestors, nearest first, until each channel was found stored in one of them.

    Writes on the last one count too: they came after the value it holds.
    """
    remaining = set(channels)
    while remaining:
        stride = _stride(tx, key, channels)
        for ancestor in stride:
            yield ancestor
            remaining -= {*ancestor.values, *ancestor.chains, *ancestor.held}
            if not remaining:
                return
        if len(stride) < _STRIDE:
            return
        key = key._replace(checkpoint_id=stride[-1].checkpoint_id)


def _stride(tx: Tx, key: Key, channels: Sequence[str]) -> list[Ancestor]:
    rows = tx.exec_driver_sql(sql("checkpoints", "ancestors"), {**key._asdict(), "depth": _STRIDE})
    vault = vault_of(tx)
    bodies = {
        checkpoint_id: unpack_body(vault.open(body, *places.of_body(*key[:2], checkpoint_id)))
        for checkpoint_id, body in rows
    }
    wanted = {
        (checkpoint_id, channel): ((key.thread_id, key.checkpoint_ns, channel), version)
        for checkpoint_id, body in bodies.items()
        for channel, version in blobs_of(body).items()
        if channel in channels
    }
    chains = read_chains(tx, wanted.values())
    writes = read_writes(tx, [(*key[:2], checkpoint_id) for checkpoint_id in bodies])
    return [
        Ancestor(
            checkpoint_id,
            {channel: value for channel, value in body["inline"].items() if channel in channels},
            {
                c: chains[wanted[checkpoint_id, c]]
                for c in channels
                if wanted.get((checkpoint_id, c)) in chains
            },
            writes[*key[:2], checkpoint_id],
            [channel for channel in body.get(HELD, ()) if channel in channels],
        )
        for checkpoint_id, body in bodies.items()
    ]
