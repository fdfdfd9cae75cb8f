"""Threads: create, read, change, copy, prune and find them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from trellis.db import cancel as cancel_rows
from trellis.db import threads
from trellis.db.access import forbidden
from trellis.db.checkpoints import plain_values
from trellis.db.checkpoints import prune as prune_checkpoints
from trellis.db.engine import Tx
from trellis.db.threads import Query
from trellis.domain.access import Condition
from trellis.domain.containment import contains
from trellis.domain.idempotency import Key
from trellis.domain.metadata import check_merged
from trellis.domain.pages import Page
from trellis.domain.ttl import Ttl
from trellis.errors import Conflict, Invalid, NotCounted, NotFound, ThreadNotFound
from trellis.runtime import Runtime
from trellis.services import cancel, idempotency

Row = Mapping[str, Any]

#: Threads whose values one search or count reads at most: about a second of work.
MOST_READ = 10_000
_READ_AT_ONCE = 500
#: Threads that are locked at once.
_PRUNED_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class New:
    """A thread that a client wants."""

    thread_id: str
    metadata: Mapping[str, Any]
    ttl: Ttl | None = None  #: None: as langgraph.json says
    keep_existing: bool = False  #: take one that is there already, unchanged
    allowed: Condition | None = None  #: what the metadata of such a one must meet


def create(rt: Runtime, tenant_id: str, new: New) -> Row:
    """
    Make a thread.

    :raises Conflict: the id is taken.
    """
    metadata = threads.sealed(rt.vault, new.metadata)
    with rt.autocommit.connect() as tx:
        row = _make(rt, tx, tenant_id, new, metadata)
    return threads.opened(rt.vault, row)


def create_once(rt: Runtime, tenant_id: str, new: New, *, key: Key) -> tuple[Row, bool]:
    """
    Make a thread unless an earlier request with this key has: then its row as it was made, and True.

    :raises Conflict: the id is taken, or the key stands for another request.
    """

    def prepare() -> Callable[[Tx], list[Row]]:
        metadata = threads.sealed(rt.vault, new.metadata)
        return lambda tx: [_make(rt, tx, tenant_id, new, metadata)]

    [row], is_replay = idempotency.once(
        rt, tenant_id, key, prepare=prepare, opened=lambda row: threads.opened(rt.vault, row)
    )
    return row, is_replay


def _make(rt: Runtime, tx: Tx, tenant_id: str, new: New, metadata: Row) -> Row:
    """Make a thread of sealed metadata. Returns it as it is stored."""
    ttl = new.ttl or rt.manifest.thread_ttl.default
    row = threads.insert(tx, tenant_id, thread_id=new.thread_id, metadata=metadata, ttl=ttl)
    if row is None and new.keep_existing:
        row = threads.stored(tx, tenant_id, thread_id=new.thread_id)
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


def values(
    rt: Runtime, thread_ids: Sequence[str], *, only: Collection[str] | None = None
) -> dict[str, Any]:
    """
    The current values of threads, as plain data. A thread on which nothing was saved is left out.

    `only` names those that are needed; None means all.
    """
    if not thread_ids:
        return {}
    with rt.autocommit.connect() as tx:
        return plain_values(tx, thread_ids, states=threads.states(tx, thread_ids), only=only)


def patch(
    rt: Runtime, tenant_id: str, thread_id: str, *, metadata: Mapping[str, Any], ttl: Ttl | None
) -> Row:
    """
    Merge metadata into a thread, and restart its time to live if one is given.

    :raises NotFound: there is no such thread.
    :raises Invalid: its metadata would grow too large.
    """
    # One statement changes it: nothing is locked while handlers encrypt, or decrypt what was there.
    with rt.autocommit.connect() as tx:
        if metadata and (before := threads.get(tx, tenant_id, thread_id=thread_id)):
            check_merged({**before["metadata"], **metadata})
        sealed = threads.sealed(rt.vault, metadata)
        row = threads.patch(tx, tenant_id, thread_id=thread_id, metadata=sealed, ttl=ttl)
    if row is None:
        raise NotFound("Not Found")
    return threads.opened(rt.vault, row)


def search(rt: Runtime, tenant_id: str, *, query: Query, page: Page) -> Sequence[Row]:
    """
    A page of the threads that match.

    :raises Invalid: too many threads would have to be read for it.
    """
    with rt.autocommit.connect() as tx:
        if not query.values:
            return threads.search(tx, tenant_id, query=query, page=page)
        found = _holding(tx, tenant_id, query, page)
        ids = list(islice(found, page.offset, page.offset + page.limit))
        return threads.search(tx, tenant_id, query=Query(ids=ids), page=replace(page, offset=0))


def count(rt: Runtime, tenant_id: str, *, query: Query) -> int:
    """
    How many threads match.

    :raises Invalid: too many threads would have to be read for it.
    """
    with rt.autocommit.connect() as tx:
        if not query.values:
            return threads.count(tx, tenant_id, query=query)
        return sum(1 for _ in _holding(tx, tenant_id, query, None))


def _holding(tx: Tx, tenant_id: str, query: Query, page: Page | None) -> Iterator[str]:
    """
    The threads that match, their values included.

    Values live in checkpoints, not on the thread's row, where every run would have to write them again. So the other
    conditions choose threads, newest first or as the page says, and of those the values that are asked for are read.

    :raises Invalid: there are more of those than may be read.
    """
    ids = threads.find(tx, tenant_id, query=query, limit=MOST_READ + 1, page=page)
    for start in range(0, min(len(ids), MOST_READ), _READ_AT_ONCE):
        some = ids[start : min(start + _READ_AT_ONCE, MOST_READ)]
        states = threads.states(tx, some)
        values = plain_values(tx, some, states=states, only=query.values.keys())
        yield from (id_ for id_ in some if contains(values.get(id_), query.values))
    if len(ids) > MOST_READ:
        raise Invalid(
            f"Searching by values reads at most {MOST_READ} threads, and more than that match the "
            "rest of the query. Narrow it with metadata, status or ids."
        )


def prune(
    rt: Runtime,
    tenant_id: str,
    thread_ids: Sequence[str],
    *,
    strategy: str,
    allowed: Condition | None = None,
) -> int:
    """
    Delete threads whatever runs on them, or (`keep_latest`) the history of those on which nothing runs.

    Returns how many that were. Threads that are not there, or not `allowed`, are left out.
    """
    hidden: set[str] = set()
    if allowed is not None:
        with rt.autocommit.connect() as tx:
            hidden = forbidden(tx, tenant_id, "threads", thread_ids, allowed)
    ids = sorted(set(thread_ids) - hidden)
    batches = [
        ids[start : start + _PRUNED_AT_ONCE] for start in range(0, len(ids), _PRUNED_AT_ONCE)
    ]
    if strategy == "delete":
        return sum(cancel.delete_threads(rt, tenant_id, batch) for batch in batches)
    return sum(_keep_latest(rt, tenant_id, batch) for batch in batches)


def _keep_latest(rt: Runtime, tenant_id: str, thread_ids: Sequence[str]) -> int:
    with rt.engine.begin() as tx:
        there = cancel_rows.lock_threads(tx, tenant_id, thread_ids)
        resting = threads.without_runs(tx, there)
        prune_checkpoints(tx, resting, strategy="keep_latest")
    return len(resting)


def storage(rt: Runtime, tenant_id: str, thread_id: str) -> Row:
    """
    How much a thread's state and history take in the database.

    :raises ThreadNotFound: there is no such thread.
    :raises NotCounted: the values are in a checkpointer of the operator's own.
    """
    with rt.autocommit.connect() as tx:
        visible(tx, tenant_id, thread_id)
        if rt.contents is not None:
            raise NotCounted(
                'Checkpoints are in a checkpointer of your own ("checkpointer.path"), which cannot say how much '
                "they take."
            )
        return threads.storage(tx, thread_id)
