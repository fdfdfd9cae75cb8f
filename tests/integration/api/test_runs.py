"""Routes that create, read and list runs. No worker is there: the runs stay pending."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from trellis.api.app import create_app
from trellis.dispatch.announce import QUEUE
from trellis.domain.ids import default_assistant_id, new_id
from trellis.runtime import Runtime, build
from trellis.settings import Settings

FIELDS = [
    "run_id",
    "thread_id",
    "assistant_id",
    "metadata",
    "status",
    "kwargs",
    "multitask_strategy",
    "created_at",
    "updated_at",
    "langsmith_session_name",
    "cancel_reason",
]
KWARGS = [
    "input",
    "command",
    "config",
    "context",
    "stream_mode",
    "interrupt_before",
    "interrupt_after",
    "webhook",
    "feedback_keys",
    "temporary",
    "subgraphs",
    "resumable",
    "checkpoint_during",
    "durability",
    "strict_resume",
]
#: How the official clients find out what they have created.


def test_create(client: FlaskClient, thread_id: str) -> None:
    body = {
        "assistant_id": "echo",
        "input": {"value": "hi"},
        "metadata": {"m": 1},
        "config": {"tags": ["t1"], "configurable": {"model": "q"}},
    }

    response = client.post(f"/threads/{thread_id}/runs", json=body)

    run = response.get_json()
    echo = default_assistant_id("echo")
    assert response.status_code == 200
    assert list(run) == FIELDS
    assert list(run["kwargs"]) == KWARGS
    assert run["thread_id"] == thread_id
    assert run["assistant_id"] == echo
    assert run["run_id"][14] == "7"
    assert (run["status"], run["multitask_strategy"]) == ("pending", "enqueue")
    assert run["metadata"] == {
        "created_by": "system",
        "graph_id": "echo",
        "assistant_id": echo,
        "m": 1,
    }
    assert run["kwargs"]["context"] == {"model": "q"}
    assert run["kwargs"]["config"]["tags"] == ["t1"]
    assert run["kwargs"]["config"]["metadata"] == run["metadata"]
    assert run["kwargs"]["config"]["configurable"]["thread_id"] == thread_id
    assert run["kwargs"]["config"]["configurable"]["langgraph_request_id"]
    assert response.headers["Content-Location"] == f"/threads/{thread_id}/runs/{run['run_id']}"
    assert "Location" not in response.headers


def test_create__is_announced_and_keeps_the_thread_busy(
    client: FlaskClient, thread_id: str, settings: Settings
) -> None:
    run = client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"}).get_json()

    thread = client.get(f"/threads/{thread_id}").get_json()
    assert thread["status"] == "busy"
    assert thread["metadata"] == {
        "graph_id": "echo",
        "assistant_id": default_assistant_id("echo"),
    }
    with redis.Redis.from_url(settings.redis_url) as broker:
        [message] = broker.lrange(QUEUE, 0, -1)
    assert run["run_id"].encode() in message


def test_create__of_an_assistant_by_its_id(client: FlaskClient, thread_id: str) -> None:
    body = {"assistant_id": default_assistant_id("hitl").upper()}

    run = client.post(f"/threads/{thread_id}/runs", json=body).get_json()

    assert run["metadata"]["graph_id"] == "hitl"


def test_create__on_a_thread_that_is_not_there(client: FlaskClient) -> None:
    path = f"/threads/{new_id()}/runs"

    for rest in ("", "/stream", "/wait"):
        response = client.post(path + rest, json={"assistant_id": "echo"})
        assert response.status_code == 404
        assert response.get_json() == {"detail": "Thread or assistant not found."}


def test_create__if_not_exists_create(client: FlaskClient) -> None:
    thread_id = new_id()
    body = {"assistant_id": "echo", "if_not_exists": "create"}

    response = client.post(f"/threads/{thread_id}/runs", json=body)

    assert response.get_json()["thread_id"] == thread_id
    assert client.get(f"/threads/{thread_id}").get_json()["status"] == "busy"


def test_create__of_an_unknown_graph(client: FlaskClient, thread_id: str) -> None:
    response = client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "nope"})

    assert response.status_code == 422
    assert response.get_json()["detail"] == (
        "Invalid assistant: 'nope'. Must be either:\n- A valid assistant UUID, or\n"
        "- One of the registered graphs: echo, hitl, nested, broken"
    )


def test_create__of_an_unknown_assistant(client: FlaskClient, thread_id: str) -> None:
    response = client.post(f"/threads/{thread_id}/runs", json={"assistant_id": new_id()})

    assert response.status_code == 404
    assert response.get_json() == {"detail": "Thread or assistant not found."}


def test_create__parameters_reach_the_worker(client: FlaskClient, thread_id: str) -> None:
    body = {
        "assistant_id": "echo",
        "command": {"resume": {"a": 1}, "goto": ["shout"]},
        "context": {"who": "me"},
        "stream_mode": ["updates", "messages-tuple"],
        "stream_subgraphs": True,
        "stream_resumable": True,
        "interrupt_before": "*",
        "interrupt_after": ["shout"],
        "checkpoint_id": "c1",
        "durability": "exit",
        "after_seconds": 60,
    }

    kwargs = client.post(f"/threads/{thread_id}/runs", json=body).get_json()["kwargs"]

    assert kwargs["command"] == body["command"]
    assert kwargs["context"] == {"who": "me"}
    assert kwargs["stream_mode"] == ["updates", "messages-tuple"]
    assert (kwargs["subgraphs"], kwargs["resumable"]) == (True, True)
    assert (kwargs["interrupt_before"], kwargs["interrupt_after"]) == ("*", ["shout"])
    assert kwargs["config"]["configurable"]["checkpoint_id"] == "c1"
    assert (kwargs["durability"], kwargs["checkpoint_during"]) == ("exit", False)


def test_create__is_tried_again_as_often_as_the_settings_say(
    rt: Runtime, settings: Settings, sql: Callable[..., Any]
) -> None:
    often = build(dataclasses.replace(settings, max_retries=7))
    client = create_app(often).test_client()

    made = [client.post("/runs", json={"assistant_id": "echo"})]
    thread_id = client.post("/threads", json={}).get_json()["thread_id"]
    made.append(client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"}))

    assert [response.status_code for response in made] == [200, 200]
    assert sql("SELECT array_agg(max_crashes) FROM run") == [8, 8]
    often.close()


def test_create__without_redis(rt: Runtime, settings: Settings) -> None:
    no_redis = build(dataclasses.replace(settings, redis_url="redis://127.0.0.1:1/0"))
    client = create_app(no_redis).test_client()

    run = client.post("/runs", json={"assistant_id": "echo"}).get_json()

    assert client.get(f"/runs/{run['run_id']}").get_json() == run
    no_redis.close()


def test_create_stateless(client: FlaskClient) -> None:
    response = client.post("/runs", json={"assistant_id": "echo", "input": 1})

    run = response.get_json()
    assert list(run) == FIELDS
    assert run["kwargs"]["temporary"] is True
    assert run["metadata"] == {
        "created_by": "system",
        "assistant_id": default_assistant_id("echo"),
    }
    assert response.headers["Content-Location"] == f"/runs/{run['run_id']}"
    assert client.get(f"/threads/{run['thread_id']}").status_code == 404
    assert client.get(f"/threads/{run['thread_id']}/runs/{run['run_id']}").status_code == 404
    assert client.get(f"/runs/{run['run_id']}").get_json() == run


def test_create_stateless__kept(client: FlaskClient) -> None:
    body = {"assistant_id": "echo", "on_completion": "keep"}

    run = client.post("/runs", json=body).get_json()

    assert run["kwargs"]["temporary"] is False
    assert client.get(f"/threads/{run['thread_id']}").status_code == 200


def test_create_batch(client: FlaskClient, thread_id: str) -> None:
    body = [{"assistant_id": "echo", "thread_id": thread_id}, {"assistant_id": "hitl"}]

    runs = client.post("/runs/batch", json=body).get_json()

    assert [run["assistant_id"] for run in runs] == [
        default_assistant_id("echo"),
        default_assistant_id("hitl"),
    ]
    assert runs[0]["thread_id"] != thread_id


@pytest.mark.parametrize("path", ["/threads/{}/runs", "/runs", "/runs/batch"])
def test_create__a_client_that_does_not_stay_cannot_hang_up(
    client: FlaskClient, thread_id: str, path: str, rows: Callable[[], Any]
) -> None:
    before = rows()
    body: Any = {"assistant_id": "echo", "on_disconnect": "cancel"}

    response = client.post(path.format(thread_id), json=[body] if "batch" in path else body)

    assert (response.status_code, "on_disconnect" in response.get_json()["detail"]) == (422, True)
    assert rows() == before


def test_create_batch__all_or_none(client: FlaskClient, rows: Callable[[], Any]) -> None:
    before = rows()
    body = [{"assistant_id": "echo"}, {"assistant_id": "nope"}]

    response = client.post("/runs/batch", json=body)

    assert response.status_code == 422
    assert rows() == before


@pytest.fixture
def two_runs(client: FlaskClient, thread_id: str) -> list[dict[str, Any]]:
    path = f"/threads/{thread_id}/runs"
    return [client.post(path, json={"assistant_id": "echo"}).get_json() for _ in range(2)]


def test_list(client: FlaskClient, thread_id: str, two_runs: list[dict[str, Any]]) -> None:
    path = f"/threads/{thread_id}/runs"

    assert client.get(path).get_json() == two_runs[::-1]
    assert client.get(f"{path}?limit=1&offset=1").get_json() == two_runs[:1]
    assert client.get(f"{path}?status=pending&select=run_id&select=status").get_json() == [
        {"run_id": run["run_id"], "status": "pending"} for run in two_runs[::-1]
    ]
    assert client.get(f"{path}?status=bogus").get_json() == []


def test_list__bad_select(client: FlaskClient, thread_id: str) -> None:
    response = client.get(f"/threads/{thread_id}/runs?select=bogus")

    assert response.status_code == 422
    assert response.get_json()["detail"].startswith("Invalid select columns: ['bogus']. Expected:")


def test_list__of_no_thread(client: FlaskClient) -> None:
    thread_id = new_id()

    response = client.get(f"/threads/{thread_id}/runs")

    assert response.status_code == 404
    assert response.get_json() == {"detail": f"Thread with ID {thread_id} not found"}


def test_get(client: FlaskClient, thread_id: str, two_runs: list[dict[str, Any]]) -> None:
    path = f"/threads/{thread_id}/runs/{two_runs[0]['run_id']}"

    assert client.get(path).get_json() == two_runs[0]


def test_get__unknown(client: FlaskClient, thread_id: str, two_runs: list[dict[str, Any]]) -> None:
    other = client.post("/threads", json={}).get_json()["thread_id"]

    for path in (
        f"/threads/{thread_id}/runs/{new_id()}",
        f"/threads/{other}/runs/{two_runs[0]['run_id']}",
        f"/runs/{new_id()}",
    ):
        response = client.get(path)
        assert (response.status_code, response.get_json()) == (404, {"detail": "Not Found"})


def test_another_tenants_run_is_not_there(
    client: FlaskClient, two_runs: list[dict[str, Any]], thread_id: str, sql: Any
) -> None:
    sql("UPDATE run SET tenant_id = 'other'")
    run_id = two_runs[0]["run_id"]

    assert client.get(f"/runs/{run_id}").status_code == 404
    assert client.get(f"/threads/{thread_id}/runs/{run_id}").status_code == 404
    assert b"Run not found" in client.get(f"/runs/{run_id}/join").data
    assert b"Run not found" in client.get(f"/runs/{run_id}/stream").data
