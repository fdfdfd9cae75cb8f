"""Delete threads and store items past their time to live, in small batches."""

from __future__ import annotations

from sqlalchemy import Engine

from trellis.db import runs, store


def prune(engine: Engine) -> int:
    """Delete one batch of each. Returns how many."""
    with engine.begin() as tx:
        threads = runs.delete_expired_threads(tx)
    with engine.begin() as tx:
        return threads + store.sweep(tx, limit=1000)
