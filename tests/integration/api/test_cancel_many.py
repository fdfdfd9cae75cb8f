"""Cancels of very many runs."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from trellis.runtime import Runtime
from trellis.services import cancel

#: More than two pages.
MANY = 2 * cancel._PAGE + 50


@pytest.fixture
def many(client: FlaskClient, sql: Any) -> None:
    """So many pending runs, two on each thread."""
    client.post("/runs", json={"assistant_id": "echo"})
    sql(
        "WITH t AS (INSERT INTO thread (thread_id, tenant_id, status) "
        "           SELECT gen_random_uuid(), 'default', 'busy' "
        "             FROM generate_series(1, :threads) RETURNING thread_id) "
        "INSERT INTO run (run_id, thread_id, tenant_id, assistant_id, graph_id, multitask_strategy, "
        "                 metadata, kwargs, run_after) "
        "SELECT gen_random_uuid(), t.thread_id, 'default', r.assistant_id, 'echo', 'enqueue', '{}', "
        "       r.kwargs, clock_timestamp() "
        "  FROM t, run r, generate_series(1, 2) RETURNING 1",
        threads=MANY // 2,
    )


STATUSES = (
    "SELECT json_object_agg(status, n) FROM (SELECT status, count(*) n FROM run GROUP BY 1) s"
)


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_all(client: FlaskClient, many: None, sql: Any, action: str) -> None:
    response = client.post(f"/runs/cancel?action={action}", json={"status": "all"})

    assert response.status_code == 204
    assert sql(STATUSES) == ({"interrupted": MANY + 1} if action == "interrupt" else None)
    assert sql("SELECT count(*) FROM thread WHERE status = 'busy'") == 0


def test_all__of_an_assistant_that_goes(client: FlaskClient, many: None, sql: Any) -> None:
    assistant_id = sql("SELECT assistant_id::text FROM run LIMIT 1")

    assert client.delete(f"/assistants/{assistant_id}").status_code == 204

    assert sql(STATUSES) == {"interrupted": MANY + 1}


def test_find_active__what_comes_meanwhile(
    client: FlaskClient, many: None, rt: Runtime, sql: Any
) -> None:
    meant: Any = {"statuses": ["pending"]}
    found: list[str] = []

    for page in cancel._pages(rt, "default", **meant):
        found += [row["run_id"] for row in page]
        thread_id = "ffffffff-ffff-4fff-bfff-ffffffffffff"
        body = {"assistant_id": "echo", "if_not_exists": "create"}
        assert client.post(f"/threads/{thread_id}/runs", json=body).status_code == 200

    assert len(found) == len(dict.fromkeys(found)) == MANY + 1
