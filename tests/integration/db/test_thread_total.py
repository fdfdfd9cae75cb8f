"""How many threads there are, known without counting them: always what counting them says."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from trellis.db import threads
from trellis.db.migrate import _config
from trellis.db.threads import Query
from trellis.domain.ids import new_id

Sql = Callable[..., Any]
COUNTED = "SELECT count(*) FROM thread WHERE tenant_id = :tenant AND NOT temporary"


@pytest.fixture
def sql(engine: Engine) -> Sql:
    def execute(statement: str, **params: Any) -> None:
        with engine.begin() as tx:
            tx.execute(text(statement), params)

    return execute


@pytest.fixture
def make(sql: Sql) -> Callable[..., str]:
    def a_thread(tenant: str = "default", *, temporary: bool = False) -> str:
        thread_id = new_id()
        sql(
            "INSERT INTO thread (thread_id, tenant_id, temporary) VALUES (:id, :tenant, :temporary)",
            id=thread_id,
            tenant=tenant,
            temporary=temporary,
        )
        return thread_id

    return a_thread


def both(tx: Connection, tenant: str) -> tuple[int, int]:
    """What is known, and what is counted."""
    known = threads.count(tx, tenant, query=Query())
    return known, int(tx.execute(text(COUNTED), {"tenant": tenant}).scalar_one())


def total(engine: Engine, tenant: str = "default") -> int:
    with engine.begin() as tx:
        known, counted = both(tx, tenant)
    assert known == counted
    return known


def add_up(engine: Engine, *, limit: int = 1000) -> None:
    with engine.begin() as tx:
        threads.add_up(tx, limit=limit)


@pytest.mark.parametrize("limit", [0, 2, 1000])
def test_count(engine: Engine, make: Callable[..., str], sql: Sql, limit: int) -> None:
    for tenant in ("default", "default", "other"):
        make(tenant)
    make(temporary=True)
    add_up(engine, limit=limit)
    assert (total(engine), total(engine, "other"), total(engine, "nobody")) == (2, 1, 0)

    sql("DELETE FROM thread WHERE thread_id = :id", id=make())
    sql("UPDATE thread SET tenant_id = 'other' WHERE thread_id = :id", id=make())
    sql("UPDATE thread SET temporary = false WHERE temporary")
    add_up(engine, limit=limit)
    assert (total(engine), total(engine, "other")) == (3, 2)

    sql("TRUNCATE thread CASCADE")
    assert (total(engine), total(engine, "other")) == (0, 0)


def test_add_up__leaves_nothing_to_add(engine: Engine, make: Callable[..., str]) -> None:
    for _ in range(5):
        make()

    add_up(engine)

    with engine.begin() as tx:
        assert tx.execute(text("SELECT count(*) FROM thread_change")).scalar() == 0
        assert tx.execute(text("SELECT threads FROM thread_total")).scalars().all() == [5]


def test_count__while_threads_come_and_go(
    engine: Engine, make: Callable[..., str], sql: Sql
) -> None:
    looking = engine.execution_options(isolation_level="REPEATABLE READ")

    def come_and_go(_: int) -> None:
        for _ in range(25):
            made = [make(), make()]
            sql("DELETE FROM thread WHERE thread_id = :id", id=made[0])

    def sweep(_: int) -> None:
        for _ in range(40):
            add_up(engine, limit=7)

    def look(_: int) -> None:
        for _ in range(40):
            with looking.begin() as tx:
                known, counted = both(tx, "default")
                assert known == counted

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(work, n) for work in (come_and_go, sweep, look) for n in range(2)]
        for each in done:
            each.result()

    assert total(engine) == 50


def test_migration__counts_the_threads_that_were_there(engine: Engine, sql: Sql) -> None:
    """Any number of times, whatever is written down by then."""
    count = ScriptDirectory.from_config(_config()).get_revision("0012").module.COUNT
    with engine.begin() as tx:
        tx.exec_driver_sql("SET LOCAL session_replication_role = replica")
        tx.exec_driver_sql(
            "INSERT INTO thread (thread_id) SELECT gen_random_uuid() FROM generate_series(1, 3)"
        )
    sql("INSERT INTO thread (thread_id) SELECT gen_random_uuid() FROM generate_series(1, 2)")

    for _ in range(2):
        sql(count)
        assert total(engine) == 5
        add_up(engine)
