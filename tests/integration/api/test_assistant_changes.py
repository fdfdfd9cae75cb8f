"""Routes that make, change, version and delete assistants."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from trellis.domain.ids import default_assistant_id, new_id
from trellis.runtime import Runtime
from trellis.services.assistants import ensure_defaults

Create = Callable[..., dict[str, Any]]

EXPECTED = "Expected one of: ['broken', 'echo', 'hitl', 'nested']"


@pytest.fixture
def create(client: FlaskClient) -> Create:
    def create(**body: Any) -> dict[str, Any]:
        response = client.post("/assistants", json={"graph_id": "echo", **body})
        assert response.status_code == 200, response.data
        assistant: dict[str, Any] = response.get_json()
        return assistant

    return create


def shown(assistant: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {field: assistant[field] for field in fields}


def test_create(client: FlaskClient, create: Create) -> None:
    assistant = create(
        name="Mine", description="d", metadata={"team": "x"}, context={"model": "m1"}
    )

    assert assistant["created_at"] == assistant["updated_at"]
    assert {k: v for k, v in assistant.items() if not k.endswith(("_at", "_id"))} == {
        "config": {"configurable": {"model": "m1"}},
        "context": {"model": "m1"},
        "metadata": {"team": "x"},
        "name": "Mine",
        "version": 1,
        "description": "d",
    }
    assert client.get(f"/assistants/{assistant['assistant_id']}").get_json() == assistant


def test_create__with_nothing_but_a_graph(create: Create) -> None:
    assistant = create()

    assert shown(assistant, "name", "description", "config", "context", "metadata") == {
        "name": "Untitled",
        "description": None,
        "config": {},
        "context": {},
        "metadata": {},
    }


def test_create__configurable_fills_the_context(create: Create) -> None:
    assistant = create(config={"configurable": {"model": "a"}, "tags": ["t"], "recursion_limit": 7})

    assert assistant["context"] == {"model": "a"}
    assert assistant["config"] == {
        "tags": ["t"],
        "recursion_limit": 7,
        "configurable": {"model": "a"},
    }


def test_create__both_is_refused(client: FlaskClient, rows: Callable[[], Any]) -> None:
    before = rows()

    response = client.post(
        "/assistants",
        json={"graph_id": "echo", "config": {"configurable": {"a": 1}}, "context": {"a": 2}},
    )

    assert response.status_code == 400
    assert response.get_json()["detail"].startswith("Cannot specify both configurable and context")
    assert rows() == before


def test_create__the_servers_own_keys_are_not_taken(create: Create) -> None:
    mine = {"model": "a", "langgraph_auth_user": "root", "__pregel_send": 1, "thread_id": "x"}

    assistant = create(config={"configurable": mine})

    assert assistant["config"] == {"configurable": {"model": "a"}}
    assert assistant["context"] == {"model": "a"}


def test_create__an_id_that_is_taken(client: FlaskClient, create: Create) -> None:
    first = create(assistant_id=new_id().upper(), name="first")
    again = {"graph_id": "echo", "assistant_id": first["assistant_id"], "name": "second"}

    refused = client.post("/assistants", json=again)
    kept = client.post("/assistants", json={**again, "if_exists": "do_nothing"})

    assert refused.status_code == 409
    assert refused.get_json() == {"detail": f"Assistant {first['assistant_id']} already exists"}
    assert kept.get_json() == first


def test_create__an_id_of_somebody_else(client: FlaskClient, create: Create, sql: Any) -> None:
    body = {"graph_id": "echo", "assistant_id": create()["assistant_id"]}
    sql("UPDATE assistant SET tenant_id = 'other'")

    response = client.post("/assistants", json={**body, "if_exists": "do_nothing"})

    assert response.status_code == 409


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({}, 422, '"graph_id" is a required property'),
        ({"graph_id": "nope"}, 404, f"Graph 'nope' not found. {EXPECTED}"),
        ({"graph_id": "echo", "assistant_id": "xx"}, 422, "Invalid assistant ID: must be a UUID"),
        ({"graph_id": "echo", "if_exists": "zz"}, 422, "Expected one of: do_nothing, raise"),
        ({"graph_id": "echo", "metadata": {"a": "x" * 70_000}}, 422, "metadata is larger than"),
        (
            {"graph_id": "echo", "config": {"metadata": {"a": "x" * 70_000}}},
            422,
            "metadata is larger than",
        ),
    ],
    ids=["nothing", "unknown graph", "no UUID", "if_exists", "large metadata", "in the config"],
)
def test_create__refused(client: FlaskClient, body: Any, status: int, detail: str) -> None:
    response = client.post("/assistants", json=body)

    assert response.status_code == status
    assert detail in response.get_json()["detail"]


@pytest.fixture
def patched(client: FlaskClient, create: Create) -> Callable[..., dict[str, Any]]:
    """An assistant after each of the patches; they all go to the same one."""
    path = (
        f"/assistants/{create(name='n', metadata={'team': 'x'}, context={'m': 1})['assistant_id']}"
    )

    def patch(**body: Any) -> dict[str, Any]:
        response = client.patch(path, json=body)
        assert response.status_code == 200, response.data
        assistant: dict[str, Any] = response.get_json()
        assert client.get(path).get_json() == assistant
        return assistant

    return patch


def test_patch__is_a_new_version(patched: Callable[..., dict[str, Any]]) -> None:
    assert patched()["version"] == 2
    assert patched(name="m")["version"] == 3

    assistant = patched(graph_id="hitl", metadata={"extra": 1})

    assert assistant["updated_at"] > assistant["created_at"]
    assert shown(assistant, "version", "name", "graph_id", "metadata", "context", "config") == {
        "version": 4,
        "name": "m",
        "graph_id": "hitl",
        "metadata": {"team": "x", "extra": 1},
        "context": {"m": 1},
        "config": {"configurable": {"m": 1}},
    }


def test_patch__settings_are_replaced(patched: Callable[..., dict[str, Any]]) -> None:
    by_config = patched(config={"tags": ["t"], "configurable": {"a": 1}})
    by_context = patched(context={"b": 2})

    assert shown(by_config, "config", "context") == {
        "config": {"tags": ["t"], "configurable": {"a": 1}},
        "context": {"a": 1},
    }
    assert shown(by_context, "config", "context") == {
        "config": {"configurable": {"b": 2}},
        "context": {"b": 2},
    }


def test_patch__a_description_comes_and_goes(patched: Callable[..., dict[str, Any]]) -> None:
    assert patched(description="d")["description"] == "d"
    assert patched(name="m")["description"] == "d"
    assert patched(description=None)["description"] is None


def test_patch__many_at_once_are_as_many_versions(app: Flask, create: Create) -> None:
    assistant_id = create()["assistant_id"]

    def patch(n: int) -> int:
        body = {"metadata": {str(n): n}}
        return app.test_client().patch(f"/assistants/{assistant_id}", json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(patch, range(12))) == {200}

    client = app.test_client()
    assistant = client.get(f"/assistants/{assistant_id}").get_json()
    versions = client.post(f"/assistants/{assistant_id}/versions", json={"limit": 20}).get_json()
    assert assistant["metadata"] == {str(n): n for n in range(12)}
    assert [each["version"] for each in versions] == list(range(13, 0, -1))


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("PATCH", "", {"name": "x"}, "Assistant {} not found"),
        ("POST", "/versions", {}, "Assistant {} not found"),
        ("POST", "/latest", {"version": 1}, "Assistant {} not found"),
        ("DELETE", "", None, "Assistant with ID {} not found"),
    ],
    ids=["patch", "versions", "latest", "delete"],
)
def test_an_assistant_of_somebody_else_is_not_there(
    client: FlaskClient, sql: Any, method: str, path: str, body: Any, detail: str
) -> None:
    sql("UPDATE assistant SET tenant_id = 'other'")
    echo = default_assistant_id("echo")

    response = client.open(f"/assistants/{echo}{path}", method=method, json=body)

    assert response.status_code == 404
    assert response.get_json() == {"detail": detail.format(echo)}
    assert sql("SELECT count(*) FROM assistant_version") == 4


def test_patch__an_unknown_graph(client: FlaskClient, create: Create) -> None:
    path = f"/assistants/{create()['assistant_id']}"

    response = client.patch(path, json={"graph_id": "nope", "name": "x"})

    assert response.status_code == 404
    assert client.get(path).get_json()["version"] == 1


def test_versions(client: FlaskClient, patched: Callable[..., dict[str, Any]]) -> None:
    patched(metadata={"extra": 1}, description="d")
    path = f"/assistants/{patched(name='m')['assistant_id']}/versions"

    [third, second, first] = client.post(path, json={}).get_json()
    page = client.post(path, json={"limit": 1, "offset": 1}).get_json()
    with_extra = client.post(path, json={"metadata": {"extra": 1}}).get_json()

    assert list(third) == [
        "assistant_id",
        "version",
        "graph_id",
        "config",
        "context",
        "metadata",
        "created_at",
        "name",
        "description",
    ]
    assert [each["name"] for each in (third, second, first)] == ["m", "n", "n"]
    assert third["created_at"] > second["created_at"] > first["created_at"]
    assert page == [second]
    assert with_extra == [third, second]


def test_set_latest__restores_everything(
    client: FlaskClient, patched: Callable[..., dict[str, Any]]
) -> None:
    patched(graph_id="hitl", metadata={"b": 2}, context={"c": 3}, name="m", description="d")
    path = f"/assistants/{patched()['assistant_id']}"

    restored = client.post(f"{path}/latest", json={"version": 1}).get_json()
    changed = client.patch(path, json={"name": "after"}).get_json()

    assert {k: v for k, v in restored.items() if not k.endswith(("_at", "assistant_id"))} == {
        "graph_id": "echo",
        "config": {"configurable": {"m": 1}},
        "context": {"m": 1},
        "metadata": {"team": "x"},
        "name": "n",
        "version": 1,
        "description": None,
    }
    assert shown(changed, "version", "name", "context") == {
        "version": 4,
        "name": "after",
        "context": {"m": 1},
    }


def test_set_latest__an_unknown_version(client: FlaskClient, create: Create) -> None:
    assistant = create()
    path = f"/assistants/{assistant['assistant_id']}"

    response = client.post(f"{path}/latest", json={"version": 99})
    missing = client.post(f"{path}/latest", json={})

    detail = f"Version 99 not found for assistant {assistant['assistant_id']}"
    assert (response.status_code, response.get_json()) == (404, {"detail": detail})
    assert missing.status_code == 422
    assert client.get(path).get_json() == assistant


def test_delete(client: FlaskClient, create: Create, sql: Any) -> None:
    path = f"/assistants/{(assistant_id := create()['assistant_id'])}"
    sql(
        "INSERT INTO cron (cron_id, assistant_id, schedule, payload, run) "
        "VALUES (:cron_id, :assistant_id, '* * * * *', '{}', '{}')",
        cron_id=new_id(),
        assistant_id=assistant_id,
    )

    deleted = client.delete(path)

    assert (deleted.status_code, deleted.data) == (204, b"")
    assert client.get(path).status_code == 404
    assert client.delete(path).status_code == 404
    assert sql("SELECT count(*) FROM cron WHERE assistant_id = :id", id=assistant_id) == 0
    assert (
        sql("SELECT count(*) FROM assistant_version WHERE assistant_id = :id", id=assistant_id) == 0
    )


@pytest.fixture
def with_run(client: FlaskClient, create: Create) -> tuple[str, str, str]:
    """An assistant, and a thread on which it has a pending run: assistant, thread, run."""
    assistant_id = create()["assistant_id"]
    thread_id = client.post("/threads", json={}).get_json()["thread_id"]
    body = {"assistant_id": assistant_id}
    run = client.post(f"/threads/{thread_id}/runs", json=body).get_json()
    return assistant_id, thread_id, run["run_id"]


def test_delete__stops_runs_and_keeps_threads(
    client: FlaskClient, with_run: tuple[str, str, str], thread_id: str
) -> None:
    assistant_id, its_thread, run_id = with_run
    other = client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"}).get_json()

    assert client.delete(f"/assistants/{assistant_id}").status_code == 204

    run = client.get(f"/threads/{its_thread}/runs/{run_id}").get_json()
    spared = client.get(f"/threads/{thread_id}/runs/{other['run_id']}").get_json()
    assert run["status"] == "interrupted"
    assert client.get(f"/threads/{its_thread}").get_json()["status"] == "idle"
    assert spared["status"] == "pending"


def test_delete__with_its_threads(
    client: FlaskClient, with_run: tuple[str, str, str], thread_id: str
) -> None:
    assistant_id, its_thread, _ = with_run

    response = client.delete(f"/assistants/{assistant_id}?delete_threads=true")

    assert response.status_code == 204
    assert client.get(f"/threads/{its_thread}").status_code == 404
    assert client.get(f"/threads/{thread_id}").status_code == 200


def test_delete__a_default_assistant_comes_back_when_it_is_needed(
    client: FlaskClient, thread_id: str
) -> None:
    echo = default_assistant_id("echo")
    client.delete(f"/assistants/{echo}")
    assert client.get(f"/assistants/{echo}").status_code == 404

    client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"})

    assert client.get(f"/assistants/{echo}").get_json()["version"] == 1


def test_ensure_defaults__follows_langgraph_json(
    rt: Runtime, client: FlaskClient, sql: Any
) -> None:
    path = f"/assistants/{default_assistant_id('hitl')}"
    sql("UPDATE assistant SET description = 'what it said before'")
    sql("UPDATE assistant_version SET description = 'what it said before'")

    ensure_defaults(rt)

    assert client.get(path).get_json()["description"] == "Asks a person"
    [version] = client.post(f"{path}/versions", json={}).get_json()
    assert (version["version"], version["description"]) == (1, "Asks a person")


def test_ensure_defaults__leaves_what_somebody_changed(rt: Runtime, client: FlaskClient) -> None:
    path = f"/assistants/{default_assistant_id('hitl')}"
    changed = client.patch(path, json={"description": "mine"}).get_json()

    ensure_defaults(rt)

    assert client.get(path).get_json() == changed
