"""A database of each test's own, savers on it, and the numbers of rows in its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from trellis.db.checkpoints import Cache, DirectBackend
from trellis.db.checkpoints.saver import Saver
from trellis.db.serde import serializer

Count = Callable[[], tuple[int, int, int]]


@pytest.fixture
def backend(engine: Engine) -> Iterator[DirectBackend]:
    backend = DirectBackend(engine)
    yield backend
    backend.close()


@pytest.fixture
def new_saver(backend: DirectBackend) -> Callable[[], Saver]:
    """Each call is a run of the same process: a saver of its own, a cache in common."""
    cache, serde = Cache(), serializer()
    return lambda: Saver(backend, serde=serde, cache=cache)


@pytest.fixture
def cold_saver(backend: DirectBackend) -> Saver:
    """A saver of a process that remembers nothing: what it reads is in the tables."""
    return Saver(backend, serde=serializer())


@pytest.fixture
def count(engine: Engine) -> Count:
    """Rows of checkpoints, of blobs and of writes."""

    def count() -> tuple[int, int, int]:
        with engine.connect() as tx:
            first, second, third = (
                tx.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
                for table in ("checkpoint", "checkpoint_blob", "checkpoint_write")
            )
        return first, second, third

    return count
