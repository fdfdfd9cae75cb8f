"""A database of each test's own, and the backend that LangGraph's suite talks to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from trellis.db.checkpoints import DirectBackend
from trellis.db.engine import new_engine


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = new_engine(database_url, pool_size=4)
    yield engine
    engine.dispose()


@pytest.fixture
def backend(engine: Engine) -> Iterator[DirectBackend]:
    backend = DirectBackend(engine)
    yield backend
    backend.close()
