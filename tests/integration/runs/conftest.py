"""A migrated database, and shorthands for the life of a run in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, text

from integration.runs.rows import SUCCESS, rows_of
from trellis.db import cancel, checkpoints, runs
from trellis.db.cancel import Stopped
from trellis.db.rounds import Finish, Round, Write
from trellis.dev.process import poll_until
from trellis.domain.ids import new_id
from trellis.domain.multitask import Action
from trellis.domain.runs import Claim, Outcome, Ward

DEFAULTS = {
    "tenant_id": "default",
    "graph_id": "echo",
    "multitask_strategy": "enqueue",
    "metadata": {},
    "kwargs": {"input": 1},
    "after_seconds": 0,
    "timeout_seconds": 60,
    "max_crashes": 3,
    "thread_metadata": {},
    "thread_config": {},
}


@pytest.fixture
def defaults() -> dict[str, object]:
    """The columns of a run that most tests do not care for."""
    return dict(DEFAULTS)


Stop = Callable[..., Stopped]


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
    def take(
        run_id: str, *, lease: float = 15.0, owner: str = "test", ward: Ward = Ward.OPEN
    ) -> Claim | None:
        with engine.begin() as tx:
            claimed, _ = runs.claim(
                tx, {run_id: new_id()}, owner=owner, lease_seconds=lease, ward=ward
            )
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


@pytest.fixture
def until_blocked(engine: Engine) -> Callable[[Connection], None]:
    """Return when somebody waits for a lock that this connection holds."""
    waits = text("SELECT 1 FROM pg_locks WHERE NOT granted AND :pid = ANY(pg_blocking_pids(pid))")

    def wait(holder: Connection) -> None:
        pid = holder.execute(text("SELECT pg_backend_pid()")).scalar_one()

        def is_blocked() -> bool:
            with engine.connect() as tx:
                return tx.execute(waits, {"pid": pid}).first() is not None

        assert poll_until(is_blocked, seconds=20)

    return wait


@pytest.fixture
def stop(engine: Engine) -> Stop:
    """Ask for the end of a thread's active runs."""

    def ask(thread_id: str, action: str = "interrupt", reason: str = "why") -> Stopped:
        with engine.begin() as tx:
            assert cancel.lock_thread(tx, "default", thread_id)
            among = cancel.active(tx, thread_id)
            return cancel.stop(tx, thread_id, among=among, action=Action(action), reason=reason)

    return ask


@pytest.fixture
def end(engine: Engine) -> Callable[..., object]:
    """Finish as a worker does: in a round of the group commit, with what it still writes."""

    def play(claim: Claim, outcome: Outcome = SUCCESS, *writes: Write) -> object:
        item = Finish(claim=claim, outcome=outcome)
        with engine.begin() as tx:
            results = Round(tx, [*writes, item], cache=checkpoints.Cache()).execute()
        return results[id(item)]

    return play


@pytest.fixture
def save(engine: Engine) -> Callable[..., None]:
    """Write a checkpoint of a run, and a special write on an earlier one if asked."""

    def write(claim: Claim, checkpoint_id: str, *, answer: str | None = None) -> None:
        with engine.begin() as tx:
            Round(tx, [rows_of(claim, checkpoint_id, answer)], cache=checkpoints.Cache()).execute()

    return write
