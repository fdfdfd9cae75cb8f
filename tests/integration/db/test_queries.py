"""Statements that are planned once, on connections of which each statement is a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from trellis.db import threads
from trellis.db.engine import Tx, new_engine
from trellis.db.queries import Preparing
from trellis.domain.ids import new_id

PREPARED = text("SELECT array_agg(name ORDER BY name) FROM pg_prepared_statements")
TENANT = "default"


@pytest.fixture
def connections(database_url: str) -> Iterator[Engine]:
    engine = new_engine(database_url, pool_size=1, autocommit=True)
    yield engine
    engine.dispose()


@pytest.fixture
def alone(connections: Engine) -> Engine:
    """Prepares `threads.get`, and nothing else."""
    return Preparing(connections, only={("threads", "get")}, alone=True).engine


def get(tx: Tx) -> None:
    assert threads.get(tx, TENANT, thread_id=new_id()) is None


def test_execute__prepares_what_it_is_told(alone: Engine) -> None:
    with alone.connect() as tx:
        assert not threads.exists(tx, TENANT, new_id())
        get(tx)
        get(tx)

        assert tx.execute(PREPARED).scalar() == ["threads_get"]


def test_execute__a_pooler_took_the_prepared_statements_away(alone: Engine) -> None:
    with alone.connect() as tx:
        get(tx)
        tx.execute(text("DEALLOCATE ALL"))

        get(tx)
        get(tx)

        assert tx.execute(PREPARED).scalar() is None


def test_execute__somebody_else_prepared_it_on_this_connection(alone: Engine) -> None:
    with alone.connect() as tx:
        tx.execute(text("PREPARE threads_get AS SELECT 1"))

        get(tx)


def test_execute__in_a_transaction_nothing_is_prepared(connections: Engine, alone: Engine) -> None:
    """There a statement that was lost would take the others with it."""
    with alone.connect() as tx:
        get(tx)
        tx.execute(text("DEALLOCATE ALL"))

    with connections.execution_options(isolation_level="READ COMMITTED").begin() as tx:
        get(tx)

        assert tx.execute(PREPARED).scalar() is None
