"""Threads: create, read, change and find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trellis.db import threads
from trellis.db.access import forbidden
from trellis.db.checkpoints import plain_values
from trellis.db.engine import Tx
from trellis.db.threads import Query, Ttl
from trellis.domain.access import Condition
from trellis.domain.idempotency import Key
from trellis.domain.pages import Page
from trellis.errors import Conflict, NotFound, ThreadNotFound
from trellis.runtime import Runtime
from trellis.services import idempotency

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class New:
    """A thread that a client wants."""

    thread_id: str
    metadata: Mapping[str, Any]
    ttl: Ttl | None = None
    keep_existing: bool = False  #: take one that is there already, unchanged
    allowed: Condition | None = None  #: what the metadata of such a one must meet


def create(rt: Runtime, tenant_id: str, new: New) -> Row:
    """
    Make a thread.

    :raises Conflict: the id is taken.
    """
    with rt.autocommit.connect() as tx:
        return _make(tx, tenant_id, new)


def create_once(rt: Runtime, tenant_id: str, new: New, *, key: Key) -> tuple[Row, bool]:
    """
    Make a thread unless an earlier request with this key has: then its row as it was made, and True.

    :raises Conflict: the id is taken, or the key stands for another request.
    """
    [row], is_replay = idempotency.once(rt, tenant_id, key, lambda tx: [_make(tx, tenant_id, new)])
    return row, is_replay


def _make(tx: Tx, tenant_id: str, new: New) -> Row:
    row = threads.insert(tx, tenant_id, thread_id=new.thread_id, metadata=new.metadata, ttl=new.ttl)
    if row is None and new.keep_existing:
        row = threads.get(tx, tenant_id, thread_id=new.thread_id)
        if new.allowed and forbidden(tx, tenant_id, "threads", [new.thread_id], new.allowed):
            row = None
    if row is None:
        raise Conflict(f"Thread with ID {new.thread_id} already exists")
    return row


def get(rt: Runtime, tenant_id: str, thread_id: str) -> Row:
    """
    A thread.

    :raises ThreadNotFound: there is none.
    """
    with rt.autocommit.connect() as tx:
        return visible(tx, tenant_id, thread_id)


def visible(tx: Tx, tenant_id: str, thread_id: str) -> Row:
    """
    A thread that the tenant may see.

    :raises ThreadNotFound: there is none.
    """
    row = threads.get(tx, tenant_id, thread_id=thread_id)
    if row is None:
        raise ThreadNotFound(thread_id)
    return row


def values(rt: Runtime, thread_ids: Sequence[str]) -> dict[str, Any]:
    """The current values of threads, as plain data. A thread on which nothing was saved is left out."""
    if not thread_ids:
        return {}
    with rt.autocommit.connect() as tx:
        channels = threads.state_channels(tx, thread_ids)
        return plain_values(tx, thread_ids, state_channels=channels)


def patch(
    rt: Runtime, tenant_id: str, thread_id: str, *, metadata: Mapping[str, Any], ttl: Ttl | None
) -> Row:
    """
    Merge metadata into a thread, and restart its time to live if one is given.

    :raises NotFound: there is no such thread.
    """
    with rt.engine.begin() as tx:
        row = threads.patch(tx, tenant_id, thread_id=thread_id, metadata=metadata, ttl=ttl)
    if row is None:
        raise NotFound("Not Found")
    return row


def search(rt: Runtime, tenant_id: str, *, query: Query, page: Page) -> Sequence[Row]:
    """A page of the threads that match."""
    with rt.autocommit.connect() as tx:
        return threads.search(tx, tenant_id, query=query, page=page)


def count(rt: Runtime, tenant_id: str, *, query: Query) -> int:
    """How many threads match."""
    with rt.autocommit.connect() as tx:
        return threads.count(tx, tenant_id, query=query)
