"""Threads copied, pruned and measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from trellis.domain.ids import new_id

RunGraph = Callable[[str, str, str], None]


def history(client: FlaskClient, thread_id: str) -> list[dict[str, Any]]:
    states: list[dict[str, Any]] = client.get(f"/threads/{thread_id}/history?limit=100").get_json()
    return states


@pytest.fixture
def asked(client: FlaskClient, run_graph: RunGraph, sql: Any) -> str:
    """A thread on which a graph has run twice, and waits for an answer."""
    metadata = {"graph_id": "hitl", "mine": 1}
    ttl = {"ttl": 5, "strategy": "keep_latest"}
    body = {"metadata": metadata, "ttl": ttl}
    thread_id: str = client.post("/threads", json=body).get_json()["thread_id"]
    run_graph("hitl", thread_id, "first")
    run_graph("hitl", thread_id, "second")
    sql(
        "UPDATE thread SET status = 'interrupted', config = '{\"tags\": [\"t\"]}', "
        'interrupts = \'{"task": [{"id": "1", "value": "?"}]}\''
    )
    return thread_id


def test_copy(client: FlaskClient, asked: str) -> None:
    source = client.get(f"/threads/{asked}?include=ttl").get_json()

    response = client.post(f"/threads/{asked}/copy")

    copy = response.get_json()
    assert response.status_code == 200
    assert copy["thread_id"] != asked
    assert copy["created_at"] == copy["updated_at"] == copy["state_updated_at"]
    same = ("metadata", "config", "values", "status", "interrupts", "error")
    assert {key: copy[key] for key in same} == {key: source[key] for key in same}
    ttl = client.get(f"/threads/{copy['thread_id']}?include=ttl").get_json()["ttl"]
    assert ttl["expires_at"] > source["ttl"]["expires_at"]
    assert (ttl["strategy"], ttl["ttl_minutes"]) == ("keep_latest", 5.0)


def test_copy__can_be_taken_by_its_id(client: FlaskClient, asked: str) -> None:
    copy = client.post(f"/threads/{asked}/copy").get_json()

    body = {"thread_id": copy["thread_id"], "if_exists": "do_nothing"}

    assert client.post("/threads", json=body).get_json() == copy


def test_copy__has_the_history_for_itself(client: FlaskClient, asked: str) -> None:
    copy = client.post(f"/threads/{asked}/copy").get_json()["thread_id"]
    before = history(client, asked)

    copied = history(client, copy)
    client.delete(f"/threads/{asked}")

    assert [state["values"] for state in copied] == [state["values"] for state in before]
    assert [state["next"] for state in copied] == [state["next"] for state in before]
    assert history(client, copy) == copied
    assert client.get(f"/threads/{copy}/runs").get_json() == []


def test_copy__with_a_run_that_has_not_begun(client: FlaskClient, thread_id: str, sql: Any) -> None:
    client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"})

    copy = client.post(f"/threads/{thread_id}/copy").get_json()

    assert copy["status"] == "idle"
    assert client.get(f"/threads/{copy['thread_id']}/runs").get_json() == []


def test_copy__while_a_run_executes(client: FlaskClient, thread_id: str, sql: Any) -> None:
    client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"})
    sql("UPDATE run SET status = 'running', lease_expires_at = clock_timestamp()")

    response = client.post(f"/threads/{thread_id}/copy")

    assert response.status_code == 409
    assert "Copy it when it has ended" in response.get_json()["detail"]
    assert sql("SELECT count(*) FROM thread") == 1


@pytest.mark.parametrize("whose", ["nobody", "other", "temporary"])
def test_copy__what_is_not_there(client: FlaskClient, thread_id: str, sql: Any, whose: str) -> None:
    sql({"other": "UPDATE thread SET tenant_id = 'other'"}.get(whose, "SELECT 1"))
    sql({"temporary": "UPDATE thread SET temporary = true"}.get(whose, "SELECT 1"))

    response = client.post(f"/threads/{new_id() if whose == 'nobody' else thread_id}/copy")

    assert response.status_code == 409
    assert response.get_json()["detail"].startswith("Conflict")


def test_prune__deletes(client: FlaskClient, asked: str, thread_id: str, sql: Any) -> None:
    client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"})
    spared = client.post("/threads", json={}).get_json()["thread_id"]

    response = client.post(
        "/threads/prune", json={"thread_ids": [asked, thread_id, thread_id.upper(), new_id()]}
    )

    assert response.get_json() == {"pruned_count": 2}
    assert sql("SELECT thread_id::text FROM thread") == spared
    for table in ("run", "checkpoint", "checkpoint_blob", "checkpoint_write"):
        assert sql(f"SELECT count(*) FROM {table}") == 0


def test_prune__keeps_the_latest(client: FlaskClient, asked: str) -> None:
    before = client.get(f"/threads/{asked}").get_json()
    [state] = client.get(f"/threads/{asked}/history?limit=1").get_json()
    assert len(history(client, asked)) > 1

    response = client.post(
        "/threads/prune", json={"thread_ids": [asked, new_id()], "strategy": "keep_latest"}
    )

    assert response.get_json() == {"pruned_count": 1}
    assert client.get(f"/threads/{asked}").get_json() == before
    assert history(client, asked) == [state]


def test_prune__leaves_the_history_of_a_thread_at_work(client: FlaskClient, asked: str) -> None:
    client.post(f"/threads/{asked}/runs", json={"assistant_id": "hitl", "command": {"resume": 1}})
    before = history(client, asked)

    response = client.post(
        "/threads/prune", json={"thread_ids": [asked], "strategy": "keep_latest"}
    )

    assert response.get_json() == {"pruned_count": 0}
    assert history(client, asked) == before


@pytest.mark.parametrize("strategy", ["delete", "keep_latest"])
def test_prune__of_somebody_else(client: FlaskClient, asked: str, sql: Any, strategy: str) -> None:
    sql("UPDATE thread SET tenant_id = 'other'")
    before = sql("SELECT count(*) FROM checkpoint")

    response = client.post("/threads/prune", json={"thread_ids": [asked], "strategy": strategy})

    assert response.get_json() == {"pruned_count": 0}
    assert sql("SELECT count(*) FROM checkpoint") == before > 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"thread_ids": ["x"]},
        {"thread_ids": [], "strategy": "bogus"},
        {"thread_ids": [new_id()] * 1001},
        {"thread_ids": None},
    ],
    ids=["nothing", "no id", "strategy", "many", "null"],
)
def test_prune__refused(client: FlaskClient, body: dict[str, Any]) -> None:
    assert client.post("/threads/prune", json=body).status_code == 422


def test_prune__nothing(client: FlaskClient) -> None:
    response = client.post("/threads/prune", json={"thread_ids": []})

    assert response.get_json() == {"pruned_count": 0}


def test_storage(client: FlaskClient, asked: str, run_graph: RunGraph) -> None:
    path = f"/threads/{asked}/storage"
    small = client.get(path).get_json()

    run_graph("echo", asked, "x" * 5000)

    found = client.get(path).get_json()
    assert found["thread_id"] == asked
    assert found["checkpoints"]["count"] == len(history(client, asked))
    assert found["checkpoints"]["bytes"] > small["checkpoints"]["bytes"] > 0
    assert found["pending_writes"]["count"] > small["pending_writes"]["count"] > 0
    assert found["channel_values"]["by_channel"]["value"]["versions"] == 1
    assert found["channel_values"]["count"] == sum(
        each["versions"] for each in found["channel_values"]["by_channel"].values()
    )
    parts = ("checkpoints", "channel_values", "pending_writes")
    assert found["total_bytes"] == sum(found[part]["bytes"] for part in parts)


def test_storage__of_nothing(client: FlaskClient, thread_id: str) -> None:
    assert client.get(f"/threads/{thread_id}/storage").get_json() == {
        "thread_id": thread_id,
        "total_bytes": 0,
        "checkpoints": {"count": 0, "bytes": 0},
        "channel_values": {"count": 0, "bytes": 0, "by_channel": {}},
        "pending_writes": {"count": 0, "bytes": 0},
    }


def test_storage__unknown(client: FlaskClient) -> None:
    assert client.get(f"/threads/{new_id()}/storage").status_code == 404
