"""A database that keeps a record of every change of a run's status, on which the invariants are checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Engine

from chaos.report import Report

#: In tests only. Ids are taken under the locks that order the changes, so they are in the order of the commits.
AUDIT = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL, thread_id uuid NOT NULL, was text, became text NOT NULL, fence bigint,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ON audit (thread_id, fence) WHERE became = 'running';
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (run_id, thread_id, was, became, fence)
    VALUES (NEW.run_id, NEW.thread_id, OLD.status, NEW.status, NEW.fence);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE OF status ON run
    FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION audit();

-- At the commit of a row of an attempt: whether a newer attempt at the thread has been committed by somebody else.
CREATE TABLE zombie_write (run_id uuid, fence bigint);
CREATE FUNCTION audit_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO zombie_write
    SELECT NEW.run_id, NEW.fence
     WHERE EXISTS (SELECT 1 FROM audit
                    WHERE thread_id = NEW.thread_id AND became = 'running' AND fence > NEW.fence
                      AND xid <> pg_current_xact_id());
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER audit_write AFTER INSERT ON checkpoint DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_write();
"""

REPORT = pytest.StashKey[Report]()


@pytest.fixture
def audited_url(database_url: str) -> str:
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.cursor().execute(AUDIT)
    return database_url


@pytest.fixture
def engine(audited_url: str, engine: Engine) -> Engine:
    """An engine on the database that keeps the record."""
    return engine


@pytest.fixture
def one(engine: Engine) -> Callable[..., Any]:
    """The first column of a query's first row."""

    def ask(query: str, **params: object) -> Any:
        with engine.connect() as tx:
            return tx.exec_driver_sql(query, params).scalar()

    return ask


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """What is printed at the end."""
    return request.config.stash.setdefault(REPORT, Report())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(REPORT, Report()).lines():
        terminalreporter.write_line(f"chaos: {line}")
