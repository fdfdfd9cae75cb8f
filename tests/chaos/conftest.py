"""A database that keeps a record of every change of a run's status, which is what the invariants are checked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
from sqlalchemy import Engine

from trellis.db.engine import new_engine

#: Only here. `clock_timestamp` and `id` are taken while the run's row is locked, so they are in the order of commits.
AUDIT = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL, thread_id uuid NOT NULL, old text, new text NOT NULL, fence bigint
);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.status <> OLD.status THEN
        INSERT INTO audit (run_id, thread_id, old, new, fence)
        VALUES (NEW.run_id, NEW.thread_id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.status END, NEW.status, NEW.fence);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON run FOR EACH ROW EXECUTE FUNCTION audit();

CREATE TABLE audit_write (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid, thread_id uuid NOT NULL, fence bigint, newest bigint
);
-- What fence the thread has when a row of an attempt is written: a newer one makes it a zombie's.
CREATE FUNCTION audit_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_write (run_id, thread_id, fence, newest)
    SELECT NEW.run_id, NEW.thread_id, NEW.fence, fence FROM thread WHERE thread_id = NEW.thread_id;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_write AFTER INSERT ON checkpoint FOR EACH ROW EXECUTE FUNCTION audit_write();
"""


@pytest.fixture
def audited_url(database_url: str) -> str:
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.cursor().execute(AUDIT)
    return database_url


@pytest.fixture
def engine(audited_url: str) -> Iterator[Engine]:
    engine = new_engine(audited_url, pool_size=24)
    yield engine
    engine.dispose()


@pytest.fixture
def one(engine: Engine) -> Callable[..., object]:
    """The first column of a query's first row."""

    def ask(query: str, **params: object) -> object:
        with engine.connect() as tx:
            return tx.exec_driver_sql(query, params).scalar()

    return ask
