"""A database of each test's own, and the backend that LangGraph's suite talks to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from trellis.db.checkpoints import DirectBackend


@pytest.fixture
def backend(engine: Engine) -> Iterator[DirectBackend]:
    backend = DirectBackend(engine)
    yield backend
    backend.close()
