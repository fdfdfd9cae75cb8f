"""Threads that are created with a history."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from trellis.domain.ids import new_id


def step(values: Any, as_node: str, **more: Any) -> dict[str, Any]:
    return {"updates": [{"values": values, "as_node": as_node, **more}]}


#: An input, and how the graph takes it up.
BEGIN = [step({"value": "x"}, "__input__"), step({"value": "x"}, "__start__")]
ECHO = {
    "metadata": {"graph_id": "echo"},
    "supersteps": [*BEGIN, step({"log": ["by hand"]}, "shout")],
}


def test_create(client: FlaskClient) -> None:
    response = client.post("/threads", json=ECHO)

    thread = response.get_json()
    assert response.status_code == 200
    assert thread["values"] == {"value": "x", "log": ["by hand"]}
    assert (thread["status"], thread["metadata"]) == ("idle", {"graph_id": "echo"})
    assert thread["state_updated_at"] > thread["created_at"]
    assert client.get(f"/threads/{thread['thread_id']}").get_json() == thread
    history = client.get(f"/threads/{thread['thread_id']}/history").get_json()
    assert [state["next"] for state in history] == [[], ["shout"], ["__start__"]]


def test_create__with_a_command(client: FlaskClient) -> None:
    goto = step(None, "prep", command={"update": {"log": ["p"]}, "goto": "ask"})
    body = {"metadata": {"graph_id": "hitl"}, "supersteps": [*BEGIN, goto]}

    thread = client.post("/threads", json=body).get_json()

    assert thread["status"] == "interrupted"
    assert thread["values"] == {"value": "x", "log": ["p"]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"metadata": {}}, "has no assigned graph ID"),
        ({"metadata": {"graph_id": "nope"}}, "Graph 'nope' not found"),
        ({"supersteps": [step({"value": "x"}, "nobody")]}, "nobody"),
    ],
    ids=["no graph", "unknown graph", "unknown node"],
)
def test_create__what_cannot_be_applied_leaves_an_empty_thread(
    client: FlaskClient, change: dict[str, Any], problem: str
) -> None:
    thread_id = new_id()

    response = client.post("/threads", json={**ECHO, **change, "thread_id": thread_id})

    detail = response.get_json()["detail"]
    assert response.status_code == 201
    assert detail.startswith(
        f"Thread {thread_id} was created, but there were problems updating the state: "
    )
    assert problem in detail
    assert client.get(f"/threads/{thread_id}").get_json()["values"] is None


def test_create__one_that_is_there_stays_as_it_is(client: FlaskClient) -> None:
    first = client.post("/threads", json=ECHO).get_json()
    again = {**ECHO, "thread_id": first["thread_id"]}

    refused = client.post("/threads", json=again)
    kept = client.post("/threads", json={**again, "if_exists": "do_nothing"})

    assert refused.status_code == 409
    assert kept.get_json() == first


def test_create__one_of_somebody_else(client: FlaskClient, thread_id: str, sql: Any) -> None:
    sql("UPDATE thread SET tenant_id = 'other'")
    body = {**ECHO, "thread_id": thread_id, "if_exists": "do_nothing"}

    assert client.post("/threads", json=body).status_code == 409
    assert sql("SELECT count(*) FROM checkpoint") == 0


def test_create__none_at_all(client: FlaskClient) -> None:
    assert client.post("/threads", json={"supersteps": []}).get_json()["values"] is None


@pytest.mark.parametrize(
    "supersteps",
    [[{}], [{"updates": [{"values": 1}]}], {}, [step(1, "a")] * 501],
    ids=["no updates", "no node", "object", "many"],
)
def test_create__refused(client: FlaskClient, sql: Any, supersteps: Any) -> None:
    response = client.post("/threads", json={**ECHO, "supersteps": supersteps})

    assert response.status_code == 422
    assert sql("SELECT count(*) FROM thread") == 0


def test_create__with_an_idempotency_key(client: FlaskClient, sql: Any) -> None:
    response = client.post("/threads", json=ECHO, headers={"Idempotency-Key": "k"})

    assert response.status_code == 422
    assert "Give it a thread_id instead" in response.get_json()["detail"]
    assert sql("SELECT count(*) FROM thread") == 0
