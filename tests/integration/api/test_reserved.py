"""Keys of metadata that are the server's: whoever sends them is not believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from flask.testing import FlaskClient

from trellis.domain.ids import default_assistant_id

FORGED = {
    "created_by": "system",
    "run_id": "r",
    "thread_id": "t",
    "assistant_id": "a",
    "graph_id": "g",
    "langgraph_plan": "enterprise",
    "__secret__": 1,
    "mine": 1,
}
STAMP = {"created_by": "system", "assistant_id": default_assistant_id("echo")}
CRON = {"assistant_id": "echo", "schedule": "0 0 1 1 *"}
RUN = {"assistant_id": "echo", "input": {}}


@pytest.mark.parametrize(
    ("path", "body", "kept"),
    [
        ("/assistants", {"graph_id": "echo"}, {}),
        ("/threads", {}, {"created_by": "system", "run_id": "r", "thread_id": "t"}),
        ("/runs", RUN, STAMP),
        ("/runs/crons", CRON, {}),
    ],
    ids=["assistant", "thread", "run", "cron"],
)
def test_create(
    client: FlaskClient, path: str, body: Mapping[str, Any], kept: Mapping[str, Any]
) -> None:
    made = client.post(path, json={**body, "metadata": FORGED}).get_json()

    of_thread = {"assistant_id": "a", "graph_id": "g"} if path == "/threads" else {}
    assert made["metadata"] == {**kept, **of_thread, "mine": 1}


@pytest.mark.parametrize("path", ["/runs", "/runs/stream", "/runs/wait"])
def test_create_run__on_a_thread(client: FlaskClient, path: str, sql: Any) -> None:
    thread_id = client.post("/threads", json={}).get_json()["thread_id"]

    client.post(f"/threads/{thread_id}{path}", json={**RUN, "metadata": FORGED}).close()

    stored = sql("SELECT metadata FROM run WHERE thread_id = CAST(:id AS uuid)", id=thread_id)
    assert stored == {**STAMP, "graph_id": "echo", "mine": 1}


def test_command__run_start(client: FlaskClient, thread_id: str, sql: Any) -> None:
    command = {"id": 1, "method": "run.start", "params": {**RUN, "metadata": FORGED}}

    client.post(f"/threads/{thread_id}/commands", json=command)

    assert sql("SELECT metadata FROM run") == {**STAMP, "graph_id": "echo", "mine": 1}


def test_create_batch(client: FlaskClient) -> None:
    made = client.post("/runs/batch", json=[{**RUN, "metadata": FORGED}, RUN]).get_json()

    assert [run["metadata"] for run in made] == [{**STAMP, "mine": 1}, STAMP]


@pytest.mark.parametrize("path", ["/assistants", "/threads", "/runs/crons"])
def test_patch(client: FlaskClient, path: str) -> None:
    fields = {"/assistants": {"graph_id": "echo"}, "/threads": {}, "/runs/crons": CRON}[path]
    made = client.post(path, json={**fields, "metadata": {"a": 1}}).get_json()
    id_ = made[{"/assistants": "assistant_id", "/threads": "thread_id"}.get(path, "cron_id")]

    forged = {"__secret__": 1, "langgraph_plan": "x", "mine": 1}
    changed = client.patch(f"{path}/{id_}", json={"metadata": forged}).get_json()

    assert changed["metadata"] == {"a": 1, "mine": 1}


def test_patch__nobody_takes_a_default_assistant(client: FlaskClient) -> None:
    path = f"/assistants/{default_assistant_id('echo')}"

    changed = client.patch(path, json={"metadata": {"created_by": "me", "a": 1}}).get_json()

    assert changed["metadata"] == {"created_by": "system", "a": 1}


def test_search__by_what_the_server_wrote(client: FlaskClient) -> None:
    found = client.post("/assistants/search", json={"metadata": {"created_by": "system"}})

    assert {row["metadata"]["created_by"] for row in found.get_json()} == {"system"}
