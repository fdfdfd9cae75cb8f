"""Threads' time to live: where it comes from, and what happens when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from trellis.domain.ids import new_id
from trellis.domain.ttl import ThreadTtl, Ttl
from trellis.runtime import Runtime
from trellis_workers.maintenance import pruner

RunGraph = Callable[[str, str, str], None]
Expired = Callable[..., str]

OVER = "UPDATE thread SET expires_at = clock_timestamp() - interval '1 second'"


@pytest.fixture
def default(rt: Runtime) -> None:
    """langgraph.json says how long threads live."""
    ttl = ThreadTtl(default=Ttl(minutes=7, strategy="keep_latest"))
    rt.manifest = replace(rt.manifest, thread_ttl=ttl)


def ttl_of(client: FlaskClient, thread_id: str) -> Any:
    ttl = client.get(f"/threads/{thread_id}?include=ttl").get_json()["ttl"]
    return ttl and (ttl["strategy"], ttl["ttl_minutes"], ttl["expires_at"] is not None)


def test_default(client: FlaskClient, default: None) -> None:
    by_default = client.post("/threads", json={}).get_json()["thread_id"]
    own = client.post("/threads", json={"ttl": {"ttl": 1}}).get_json()["thread_id"]

    assert ttl_of(client, by_default) == ("keep_latest", 7.0, True)
    assert ttl_of(client, own) == ("delete", 1.0, True)


@pytest.mark.parametrize(
    ("stateless", "body"),
    [(False, {"if_not_exists": "create"}), (True, {"on_completion": "keep"})],
    ids=["if_not_exists", "kept"],
)
def test_default__of_a_thread_that_a_run_makes(
    client: FlaskClient, default: None, stateless: bool, body: dict[str, Any]
) -> None:
    path = "/runs" if stateless else f"/threads/{new_id()}/runs"

    run = client.post(path, json={"assistant_id": "echo", **body}).get_json()

    assert ttl_of(client, run["thread_id"]) == ("keep_latest", 7.0, True)


def test_default__not_of_a_temporary_thread(client: FlaskClient, default: None, sql: Any) -> None:
    client.post("/runs", json={"assistant_id": "echo"})

    assert sql("SELECT ttl_strategy FROM thread WHERE temporary") is None


@pytest.fixture
def expired(client: FlaskClient, run_graph: RunGraph, rt: Runtime) -> Expired:
    """Make a thread with a history, whose time to live is over."""

    def make(strategy: str) -> str:
        body = {"ttl": {"ttl": 5, "strategy": strategy}, "metadata": {"graph_id": "echo"}}
        thread_id: str = client.post("/threads", json=body).get_json()["thread_id"]
        run_graph("echo", thread_id, "x")
        with rt.engine.begin() as tx:
            tx.execute(text(f"{OVER} WHERE thread_id = :t"), {"t": thread_id})
        return thread_id

    return make


def checkpoints(client: FlaskClient, thread_id: str) -> int:
    return len(client.get(f"/threads/{thread_id}/history?limit=100").get_json())


def test_expire(client: FlaskClient, rt: Runtime, expired: Expired, thread_id: str) -> None:
    gone, kept = expired("delete"), expired("keep_latest")
    before = client.get(f"/threads/{kept}").get_json()
    fresh = client.post("/threads", json={"ttl": {"ttl": 5}}).get_json()["thread_id"]

    assert pruner.expire(rt.engine, limit=10) == 2

    assert client.get(f"/threads/{gone}").status_code == 404
    assert client.get(f"/threads/{kept}").get_json() == before
    assert checkpoints(client, kept) == 1
    assert ttl_of(client, kept) == ("keep_latest", 5.0, False)
    for spared in (fresh, thread_id):
        assert client.get(f"/threads/{spared}").status_code == 200
    assert pruner.expire(rt.engine, limit=10) == 0


def test_expire__leaves_nothing_behind(rt: Runtime, expired: Expired, sql: Any) -> None:
    expired("delete")

    pruner.expire(rt.engine, limit=10)

    for table in ("thread", "checkpoint", "checkpoint_blob", "checkpoint_write"):
        assert sql(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize("strategy", ["delete", "keep_latest"])
def test_expire__not_while_a_run_is_active(
    client: FlaskClient, rt: Runtime, expired: Expired, strategy: str
) -> None:
    """Race 39."""
    thread_id = expired(strategy)
    before = checkpoints(client, thread_id)
    client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"})

    assert pruner.expire(rt.engine, limit=10) == 0

    assert checkpoints(client, thread_id) == before > 1


@pytest.mark.parametrize("strategy", ["delete", "keep_latest"])
def test_expire__no_more_than_its_limit(
    rt: Runtime, expired: Expired, sql: Any, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(pruner, "_AT_ONCE", 2)
    for _ in range(4):
        expired(strategy)

    assert [pruner.expire(rt.engine, limit=3) for _ in range(3)] == [3, 1, 0]


def test_expire__not_a_thread_that_is_locked(rt: Runtime, expired: Expired) -> None:
    locked, other = expired("delete"), expired("delete")
    with rt.engine.begin() as tx:
        tx.execute(text("SELECT 1 FROM thread WHERE thread_id = :t FOR UPDATE"), {"t": locked})

        assert pruner.expire(rt.engine, limit=10) == 1

    with rt.engine.connect() as tx:
        left = tx.execute(text("SELECT thread_id::text FROM thread")).scalars().all()
    assert left == [locked] != [other]
