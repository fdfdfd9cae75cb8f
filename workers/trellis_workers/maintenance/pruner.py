"""Delete what is past its time, in small batches: threads, idempotency keys, delivered webhooks; store items."""

from __future__ import annotations

from sqlalchemy import Engine

from trellis.db import idempotency, runs, store, webhooks


def prune(engine: Engine) -> int:
    """Delete one batch of each. Returns how many."""
    with engine.begin() as tx:
        threads = runs.delete_expired_threads(tx)
    with engine.begin() as tx:
        keys = idempotency.sweep(tx, limit=1000) + webhooks.sweep(tx, limit=1000)
    return threads + keys


def prune_store(engine: Engine) -> int:
    """Delete one batch of store items. Returns how many."""
    with engine.begin() as tx:
        return store.sweep(tx, limit=1000)
