"""End what is past its time, in small batches: threads, items, keys, delivered webhooks, dead letters."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine

from trellis.db import dead_letters, idempotency, runs, store, threads, webhooks

#: Threads that are locked at once.
_AT_ONCE = 50


def prune_temporary_threads(engine: Engine, *, limit: int = 500) -> int:
    """Delete at most so many threads of stateless runs. Returns how many."""
    return _in_batches(engine, runs.delete_temporary_threads, limit=limit)


def prune_records(engine: Engine) -> int:
    """Delete one batch of idempotency keys, delivered webhooks and dead letters. Returns how many."""
    with engine.begin() as tx:
        gone = idempotency.sweep(tx, limit=1000) + webhooks.sweep(tx, limit=1000)
    with engine.begin() as tx:
        return gone + dead_letters.sweep(tx, limit=1000)


def count_threads(engine: Engine) -> int:
    """Add up what has changed in the number of threads. Returns 0: nothing is left to do."""
    with engine.begin() as tx:
        threads.add_up(tx, limit=10_000)
    return 0


def expire(engine: Engine, *, limit: int) -> int:
    """Delete at most so many threads past their time to live, or their history. Returns how many."""
    return _in_batches(engine, runs.expire_threads, limit=limit)


def _in_batches(engine: Engine, work: Callable[..., int], *, limit: int) -> int:
    """A transaction each, so that large threads do not use up the time that a statement has."""
    done = 0
    while done < limit:
        batch = min(_AT_ONCE, limit - done)
        with engine.begin() as tx:
            found = work(tx, limit=batch)
        done += found
        if found < batch:
            break
    return done


def prune_store(engine: Engine) -> int:
    """Delete one batch of store items. Returns how many."""
    with engine.begin() as tx:
        return store.sweep(tx, limit=1000)
