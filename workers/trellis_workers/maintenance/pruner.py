"""Delete what is past its time to live, in small batches."""

from __future__ import annotations

from sqlalchemy import Engine

from trellis.db import runs


def prune(engine: Engine) -> int:
    """Delete one batch of expired threads. Returns how many."""
    with engine.begin() as tx:
        return runs.delete_expired_threads(tx)
