"""The leases of a dead process: ended at once, and nobody else's."""

from __future__ import annotations

from sqlalchemy import text

from trellis.db import runs
from trellis.db.engine import new_engine
from trellis.db.owners import disown
from trellis.domain.ids import new_id
from trellis.domain.runs import RunStatus

ACCEPT = """
WITH t AS (INSERT INTO thread (thread_id) VALUES (:t) RETURNING thread_id)
INSERT INTO run (run_id, thread_id, assistant_id, graph_id, kwargs)
SELECT :r, thread_id, :r, 'echo', '{}' FROM t
"""


def a_claimed_run(engine, owner: str) -> tuple[str, str]:
    run_id, thread_id = new_id(), new_id()
    with engine.begin() as tx:
        tx.execute(text(ACCEPT), {"t": thread_id, "r": run_id})
    with engine.begin() as tx:
        assert len(runs.claim(tx, {run_id: new_id()}, owner=owner, lease_seconds=60)[0]) == 1
    return run_id, thread_id


def test_disown(database_url):
    engine = new_engine(database_url, pool_size=1)
    run_id, thread_id = a_claimed_run(engine, "host:1:a")
    a_claimed_run(engine, "host:1:b")

    assert disown(database_url, "host:1:a") == 1
    assert disown(database_url, "host:1:a") == 0

    with engine.begin() as tx:
        assert [row["run_id"] for row in runs.expired(tx, patience_seconds=60)] == [run_id]
        assert runs.rescue(tx, run_id, thread_id, backoff_seconds=0) == RunStatus.PENDING
    engine.dispose()
