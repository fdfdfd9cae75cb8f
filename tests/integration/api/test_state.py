"""Routes of a thread's state and history, on threads that the project's graphs really ran on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from trellis.domain.ids import new_id

EMPTY: dict[str, Any] = {
    "values": {},
    "next": [],
    "tasks": [],
    "metadata": None,
    "created_at": None,
    "checkpoint": None,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": None,
    "parent_checkpoint_id": None,
}

Ran = Callable[[str, str], str]


@pytest.fixture
def state(client: FlaskClient) -> Callable[..., Any]:
    return lambda thread_id, rest="": client.get(f"/threads/{thread_id}/state{rest}").get_json()


def test_state__of_an_empty_thread(client: FlaskClient, thread_id: str) -> None:
    response = client.get(f"/threads/{thread_id}/state")

    assert (response.status_code, response.get_json()) == (200, EMPTY)
    assert list(response.get_json()) == list(EMPTY)
    assert client.get(f"/threads/{thread_id}/history").get_json() == []
    assert client.post(f"/threads/{thread_id}/history", json={}).get_json() == []


@pytest.mark.parametrize("rest", ["state", "history", "state/x"])
def test_state__of_no_thread(client: FlaskClient, rest: str) -> None:
    thread_id = new_id()

    response = client.get(f"/threads/{thread_id}/{rest}")

    assert response.status_code == 404
    assert response.get_json() == {"detail": f"Thread with ID {thread_id} not found"}


def test_state__of_a_finished_thread(ran: Ran, state: Callable[..., Any]) -> None:
    thread_id = ran("echo", "hi")

    shown = state(thread_id)

    assert list(shown) == list(EMPTY)
    assert shown["values"] == {"value": "hi", "log": ["HI"]}
    assert (shown["next"], shown["tasks"], shown["interrupts"]) == ([], [], [])
    assert list(shown["checkpoint"]) == ["checkpoint_id", "thread_id", "checkpoint_ns"]
    assert shown["checkpoint"]["thread_id"] == thread_id
    assert shown["checkpoint"]["checkpoint_id"] == shown["checkpoint_id"]
    assert shown["parent_checkpoint"]["checkpoint_id"] == shown["parent_checkpoint_id"]
    assert (shown["metadata"]["source"], shown["metadata"]["step"]) == ("loop", 1)


def test_state__with_a_question(ran: Ran, state: Callable[..., Any]) -> None:
    shown = state(ran("hitl", "v1"))

    question = {"value": {"question": "approve?", "value": "v1"}}
    [task] = shown["tasks"]
    [interrupt] = task["interrupts"]
    assert shown["next"] == ["ask"]
    assert shown["interrupts"] == [interrupt]
    assert interrupt == {"id": interrupt["id"], **question}
    assert list(task) == [
        "id",
        "name",
        "path",
        "error",
        "interrupts",
        "checkpoint",
        "state",
        "result",
    ]
    assert (task["name"], task["path"], task["error"]) == ("ask", ["__pregel_pull", "ask"], None)
    assert (task["checkpoint"], task["state"], task["result"]) == (None, None, None)


def test_state__of_a_task_that_failed(ran: Ran, state: Callable[..., Any]) -> None:
    [task] = state(ran("echo", "fail"))["tasks"]

    assert task["error"] == "ValueError('boom happened')"


def test_state__of_a_subgraph(ran: Ran, state: Callable[..., Any], client: FlaskClient) -> None:
    thread_id = ran("nested", "a")

    [closed] = state(thread_id)["tasks"]
    [opened] = state(thread_id, "?subgraphs=true")["tasks"]

    assert closed["state"] is None
    assert list(closed["checkpoint"]) == ["thread_id", "checkpoint_ns"]
    assert closed["checkpoint"]["checkpoint_ns"] == f"child:{closed['id']}"
    assert opened["checkpoint"] is None
    assert opened["state"]["next"] == ["child_ask"]
    assert list(opened["state"]["checkpoint"])[-1] == "checkpoint_map"

    found = client.post(
        f"/threads/{thread_id}/state/checkpoint", json={"checkpoint": closed["checkpoint"]}
    ).get_json()
    assert found["checkpoint"] == opened["state"]["checkpoint"]

    history = client.post(
        f"/threads/{thread_id}/history", json={"checkpoint": closed["checkpoint"], "limit": 5}
    ).get_json()
    assert [each["next"] for each in history] == [["child_ask"], ["__start__"]]


def test_state__at_a_checkpoint(ran: Ran, state: Callable[..., Any], client: FlaskClient) -> None:
    thread_id = ran("echo", "hi")
    parent = state(thread_id)["parent_checkpoint"]

    by_id = state(thread_id, f"/{parent['checkpoint_id']}")
    by_object = client.post(f"/threads/{thread_id}/state/checkpoint", json={"checkpoint": parent})

    assert by_id == by_object.get_json()
    assert by_id["next"] == ["shout"]
    assert by_id["checkpoint"] == parent


@pytest.mark.parametrize("checkpoint_id", ["1d435fb6-3bb2-4de7-8a8f-d8a085b4b499", "notuuid"])
def test_state__at_a_checkpoint_that_is_not_there(
    ran: Ran, state: Callable[..., Any], checkpoint_id: str
) -> None:
    thread_id = ran("echo", "hi")

    shown = state(thread_id, f"/{checkpoint_id}")

    assert shown == {
        **EMPTY,
        "checkpoint": {"checkpoint_id": checkpoint_id, "thread_id": thread_id},
        "checkpoint_id": checkpoint_id,
    }


def test_state__another_thread_in_the_body_is_not_read(
    ran: Ran, client: FlaskClient, state: Callable[..., Any]
) -> None:
    mine, other = ran("echo", "mine"), ran("echo", "other")
    checkpoint = state(other)["checkpoint"]

    found = client.post(f"/threads/{mine}/state/checkpoint", json={"checkpoint": checkpoint})

    assert found.get_json()["values"] == {}
    assert found.get_json()["checkpoint"]["thread_id"] == mine


def test_state__select(ran: Ran, state: Callable[..., Any], client: FlaskClient) -> None:
    thread_id = ran("hitl", "v1")

    assert state(thread_id, "?select=next") == {"next": ["ask"]}
    assert state(thread_id, "?select=values.log&select=next") == {
        "values": {"log": ["V1"]},
        "next": ["ask"],
    }
    assert state(thread_id, "?select=values&select=values.log") == {
        "values": {"value": "v1", "log": ["V1"]}
    }
    history = client.post(
        f"/threads/{thread_id}/history", json={"select": ["values.value"], "limit": 2}
    )
    assert history.get_json() == [{"values": {"value": "v1"}}, {"values": {"value": "v1"}}]
    assert client.get(f"/threads/{thread_id}/state?select=bogus").status_code == 422


def test_state__of_a_graph_that_cannot_be_imported(client: FlaskClient, ran: Ran, sql: Any) -> None:
    thread_id = ran("echo", "hi")
    client.patch(f"/threads/{thread_id}", json={"metadata": {"graph_id": "broken"}})

    response = client.get(f"/threads/{thread_id}/state")

    assert response.status_code == 500
    assert "broken.py:3" in response.get_json()["detail"]


def test_history__newest_first(client: FlaskClient, ran: Ran) -> None:
    thread_id = ran("hitl", "v1")

    every = client.get(f"/threads/{thread_id}/history").get_json()
    one = client.post(f"/threads/{thread_id}/history", json={}).get_json()
    two = client.get(f"/threads/{thread_id}/history?limit=2").get_json()

    assert [state["next"] for state in every] == [["ask"], ["prep"], ["__start__"]]
    assert every[0]["parent_checkpoint"] == every[1]["checkpoint"]
    assert every[2]["parent_checkpoint"] is None
    assert (one, two) == (every[:1], every[:2])


def test_history__before_in_every_form(client: FlaskClient, ran: Ran) -> None:
    thread_id = ran("hitl", "v1")
    every = client.get(f"/threads/{thread_id}/history").get_json()
    checkpoint = every[1]["checkpoint"]
    forms: list[Any] = [
        checkpoint["checkpoint_id"],
        checkpoint,
        {"checkpoint_id": checkpoint["checkpoint_id"]},
        {"configurable": checkpoint},
    ]

    for before in forms:
        body = {"limit": 10, "before": before}
        assert client.post(f"/threads/{thread_id}/history", json=body).get_json() == every[2:]
    query = f"?before={checkpoint['checkpoint_id']}"
    assert client.get(f"/threads/{thread_id}/history{query}").get_json() == every[2:]


@pytest.mark.parametrize("before", [{}, {"configurable": 1}, {"checkpoint_id": 1}, 7])
def test_history__before_that_names_nothing(
    client: FlaskClient, thread_id: str, before: Any
) -> None:
    response = client.post(f"/threads/{thread_id}/history", json={"before": before})

    assert response.status_code == 422
    assert "before" in response.get_json()["detail"]


@pytest.mark.parametrize(
    ("metadata", "steps"), [({"source": "input"}, [-1]), ({"step": 0}, [0]), ({"step": 7}, [])]
)
def test_history__filtered_by_metadata(
    client: FlaskClient, ran: Ran, metadata: dict[str, Any], steps: list[int]
) -> None:
    body = {"limit": 10, "metadata": metadata}

    found = client.post(f"/threads/{ran('hitl', 'v1')}/history", json=body).get_json()

    assert [state["metadata"]["step"] for state in found] == steps


def test_thread__shows_its_values(client: FlaskClient, ran: Ran) -> None:
    thread_id = ran("echo", "hi")

    values = {"value": "hi", "log": ["HI"]}
    found = client.post("/threads/search", json={"select": ["values"]}).get_json()
    assert client.get(f"/threads/{thread_id}").get_json()["values"] == values
    assert found == [{"values": values}]
