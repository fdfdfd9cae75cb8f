"""Emptying a development server, and that no other server offers it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from trellis.api.app import create_app
from trellis.runtime import Runtime

TABLES = {
    "runs": "run",
    "threads": "thread",
    "assistants": "assistant",
    "store": "store_item",
    "checkpoints": "checkpoint",
}


@pytest.fixture
def dev(rt: Runtime) -> FlaskClient:
    """A client of the same server, started for development."""
    rt.settings = dataclasses.replace(rt.settings, dev=True)
    return create_app(rt).test_client()


@pytest.fixture
def full(client: FlaskClient, ran: Callable[[str, str], str], sql: Callable[..., Any]) -> str:
    """Something of each kind. Returns a thread with checkpoints and a pending run."""
    thread_id = ran("hitl", "v")
    sql("UPDATE thread SET status = 'interrupted' WHERE thread_id = :id RETURNING 1", id=thread_id)
    body = {"assistant_id": "echo", "input": {"value": "x"}}
    client.post(f"/threads/{thread_id}/runs", json=body)
    sql("DELETE FROM store_item WHERE tenant_id = 'default' AND key = 'k' RETURNING 1")
    sql("INSERT INTO store_item (namespace, key, value) VALUES ('{a}', 'k', '{}') RETURNING 1")
    return thread_id


@pytest.fixture
def left(sql: Callable[..., Any]) -> Callable[[], set[str]]:
    """Of which kinds there is something."""
    return lambda: {kind for kind, table in TABLES.items() if sql(f"SELECT count(*) FROM {table}")}


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [
        ([], ["runs", "threads", "assistants", "store", "checkpoints"]),
        (["runs"], ["threads", "assistants", "store", "checkpoints"]),
        (["threads"], ["assistants", "store"]),
        (["store"], ["runs", "threads", "assistants", "checkpoints"]),
        (["checkpoints"], ["runs", "threads", "assistants", "store"]),
        (["checkpoint"], ["runs", "threads", "assistants", "store"]),
        (["checkpointer"], ["runs", "threads", "assistants", "store"]),
        (["runs", "threads", "assistants", "store", "checkpoints"], ["assistants"]),
    ],
)
def test_truncate(
    dev: FlaskClient, full: str, left: Callable[[], set[str]], kinds: list[str], kept: list[str]
) -> None:
    response = dev.post("/internal/truncate", json=dict.fromkeys(kinds, True))

    assert (response.status_code, response.get_json()) == (200, {"ok": True})
    assert left() == set(kept)


def test_truncate__assistants_but_the_default_ones(dev: FlaskClient, sql: Any) -> None:
    sql(
        "INSERT INTO assistant (assistant_id, graph_id, name) "
        "VALUES (gen_random_uuid(), 'echo', 'mine') RETURNING 1"
    )

    dev.post("/internal/truncate", json={"assistants": True})

    names = [each["name"] for each in dev.post("/assistants/search", json={}).get_json()]
    assert sorted(names) == ["broken", "echo", "hitl", "nested"]


def test_truncate__settles_the_threads(dev: FlaskClient, full: str) -> None:
    busy = dev.get(f"/threads/{full}").get_json()
    dev.post("/internal/truncate", json={"runs": True})
    waiting = dev.get(f"/threads/{full}").get_json()
    dev.post("/internal/truncate", json={"checkpoints": True})
    empty = dev.get(f"/threads/{full}").get_json()

    assert [each["status"] for each in (busy, waiting, empty)] == ["busy", "interrupted", "idle"]
    assert (waiting["values"]["value"], empty["values"]) == ("v", None)


def test_truncate__of_another_tenant(
    dev: FlaskClient, full: str, sql: Any, left: Callable[[], set[str]]
) -> None:
    for table in ("thread", "run", "store_item", "assistant"):
        sql(f"UPDATE {table} SET tenant_id = 'other' RETURNING 1")

    dev.post("/internal/truncate", json=dict.fromkeys(TABLES, True))

    assert left() == set(TABLES)
    sql("DELETE FROM store_item RETURNING 1")


@pytest.mark.parametrize("body", [{"runs": "yes"}, [], "text"])
def test_truncate__refused(dev: FlaskClient, body: Any) -> None:
    assert dev.post("/internal/truncate", json=body).status_code == 422


def test_truncate__not_from_a_browser(
    dev: FlaskClient, full: str, left: Callable[[], set[str]]
) -> None:
    response = dev.post(
        "/internal/truncate", json={"threads": True}, headers={"Origin": "https://example.com"}
    )

    assert response.status_code == 422
    assert left() == set(TABLES)


def test_truncate__not_on_a_server(client: FlaskClient) -> None:
    response = client.post("/internal/truncate", json={"threads": True})

    assert (response.status_code, response.get_json()) == (404, {"detail": "Not Found"})
