"""Connections that die under SQLAlchemy's hands: no place in the pool is lost, and nobody gets a 500 for it."""

from __future__ import annotations

from contextlib import ExitStack, closing

import psycopg2
import pytest
from sqlalchemy import Connection, Engine

from trellis.db.engine import is_unavailable

#: As the fixture has it.
POOL_SIZE = 4


@pytest.fixture
def autocommit(engine: Engine) -> Engine:
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def kill(tx: Connection, database_url: str) -> None:
    """End the server's side of a connection; return when it is gone."""
    pid = tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    other = psycopg2.connect(database_url)
    with other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 20000)", (pid,))
        assert cursor.fetchone() == (True,)
    other.close()


def test_connect__more_connections_died_after_their_answer_than_there_are(
    autocommit: Engine, database_url: str
) -> None:
    for _ in range(POOL_SIZE + 1):
        with autocommit.connect() as tx:
            kill(tx, database_url)

    with autocommit.connect() as tx:
        assert tx.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_connect__after_the_server_has_left_all_connections(
    autocommit: Engine, database_url: str
) -> None:
    """Also those that were in use a moment ago: nobody is told of a server that is there again."""
    with ExitStack() as stack:
        for tx in [stack.enter_context(autocommit.connect()) for _ in range(POOL_SIZE)]:
            tx.exec_driver_sql("SELECT 1")
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        cursor.execute(
            "SELECT bool_and(pg_terminate_backend(pid, 20000)), count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchone() == (True, POOL_SIZE)

    for _ in range(POOL_SIZE):
        with autocommit.connect() as tx:
            assert tx.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_is_unavailable__what_sqlalchemy_did_not_wrap(database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        with pytest.raises(psycopg2.ProgrammingError) as mistaken:
            cursor.execute("SELEKT 1")
        connection.rollback()
        with pytest.raises(psycopg2.OperationalError) as died:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(psycopg2.InterfaceError) as dead:
            connection.rollback()

    assert not is_unavailable(mistaken.value)
    assert is_unavailable(died.value)
    assert is_unavailable(dead.value)
