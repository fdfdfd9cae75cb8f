"""End what is past its time, in small batches: threads, items, keys, delivered webhooks, dead letters."""

from __future__ import annotations

from sqlalchemy import Engine

from trellis.db import dead_letters, idempotency, runs, store, threads, webhooks

#: Threads that are locked at once.
_AT_ONCE = 50


def prune(engine: Engine) -> int:
    """Delete one batch of each, and add up what has changed in the number of threads. Returns how many are gone."""
    with engine.begin() as tx:
        gone = runs.delete_temporary_threads(tx)
    with engine.begin() as tx:
        keys = idempotency.sweep(tx, limit=1000) + webhooks.sweep(tx, limit=1000)
    with engine.begin() as tx:
        letters = dead_letters.sweep(tx, limit=1000)
    with engine.begin() as tx:
        threads.add_up(tx, limit=10_000)
    return gone + keys + letters


def expire(engine: Engine, *, limit: int) -> int:
    """Delete at most so many threads past their time to live, or their history. Returns how many."""
    expired = 0
    while expired < limit:
        batch = min(_AT_ONCE, limit - expired)
        with engine.begin() as tx:
            found = runs.expire_threads(tx, limit=batch)
        expired += found
        if found < batch:
            break
    return expired


def prune_store(engine: Engine) -> int:
    """Delete one batch of store items. Returns how many."""
    with engine.begin() as tx:
        return store.sweep(tx, limit=1000)
