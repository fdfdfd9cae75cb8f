"""A migrated database, and shorthands for the life of a run in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, text

from trellis.db import runs
from trellis.db.engine import new_engine
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim, Outcome, RunStatus

DEFAULTS = {
    "tenant_id": "default",
    "graph_id": "echo",
    "multitask_strategy": "enqueue",
    "metadata": {},
    "kwargs": {"input": 1},
    "after_seconds": 0,
    "timeout_seconds": 60,
    "thread_metadata": {},
    "thread_config": {},
}


@pytest.fixture
def defaults() -> dict[str, object]:
    """The columns of a run that most tests do not care for."""
    return dict(DEFAULTS)


SUCCESS = Outcome(status=RunStatus.SUCCESS)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = new_engine(database_url, pool_size=10)
    yield engine
    engine.dispose()


@pytest.fixture
def a_run(engine: Engine) -> Callable[..., str]:
    """Accept a run: on the given thread, or on one made for it."""

    def make(
        thread_id: str | None = None, *, new_thread: str | None = None, **values: object
    ) -> str:
        temporary = bool(values.pop("temporary", False))
        row = {
            **DEFAULTS,
            "run_id": new_id(),
            "thread_id": thread_id or new_thread or new_id(),
            "assistant_id": new_id(),
            **values,
        }
        with engine.begin() as tx:
            if thread_id is None:
                assert runs.enqueue_with_thread(tx, row, temporary=temporary)
            else:
                assert runs.enqueue(tx, row)
        return str(row["run_id"])

    return make


@pytest.fixture
def a_thread(engine: Engine) -> Callable[[], str]:
    """An idle thread."""

    def make() -> str:
        thread_id = new_id()
        with engine.begin() as tx:
            tx.execute(text("INSERT INTO thread (thread_id) VALUES (:t)"), {"t": thread_id})
        return thread_id

    return make


@pytest.fixture
def claim(engine: Engine) -> Callable[..., Claim | None]:
    def take(run_id: str, *, lease: float = 15.0) -> Claim | None:
        with engine.begin() as tx:
            claimed, _ = runs.claim(tx, {run_id: new_id()}, owner="test", lease_seconds=lease)
        return claimed[0].claim if claimed else None

    return take


@pytest.fixture
def finish(engine: Engine) -> Callable[..., bool]:
    def end(claim: Claim, outcome: Outcome = SUCCESS) -> bool:
        with engine.begin() as tx:
            runs.lock_threads(tx, [claim.thread_id])
            return claim.run_id in runs.finish(tx, [(claim, outcome)])

    return end


@pytest.fixture
def one(engine: Engine) -> Callable[..., object]:
    """The first column of a query's first row."""

    def ask(query: str, **params: object) -> object:
        with engine.connect() as tx:
            return tx.execute(text(query), params).scalar()

    return ask
