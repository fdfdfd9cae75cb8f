"""Commands of protocol v2 that look at a thread, or go back on it. No worker is there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from integration.api.protocol import START, Send, Sql, refused, send
from trellis.domain.ids import new_id

__all__ = ["send"]


# state


def test_state_get(send: Send, ran: Callable[[str, str], str], client: FlaskClient) -> None:
    thread_id = ran("echo", "hi")
    state = client.get(f"/threads/{thread_id}/state").get_json()

    answer = send("state.get", {"namespace": []}, to=thread_id)

    assert answer["result"] == {
        "values": {"value": "hi", "log": ["HI"]},
        "checkpoint": {"id": state["checkpoint"]["checkpoint_id"]},
    }
    some = send("state.get", {"keys": ["log", "nothing"]}, to=thread_id)
    assert some["result"]["values"] == {"log": ["HI"]}


def test_state_get__of_a_subgraph(
    send: Send, ran: Callable[[str, str], str], client: FlaskClient
) -> None:
    thread_id = ran("nested", "hi")
    [task] = client.get(f"/threads/{thread_id}/state").get_json()["tasks"]
    namespace = task["checkpoint"]["checkpoint_ns"].split("|")

    result = send("state.get", {"namespace": namespace}, to=thread_id)["result"]

    assert result["values"]["value"] == "hi"
    assert result["checkpoint"]["ns"] == "|".join(namespace)


def test_state_get__refused(send: Send, ran: Callable[[str, str], str], thread_id: str) -> None:
    told = refused(send("state.get", {"namespace": ["nobody:1"]}, to=ran("echo", "hi")))
    assert told == ("no_such_namespace", "Unknown namespace: nobody:1")
    assert refused(send("state.get", {"keys": "log"}))[0] == "invalid_argument"
    assert refused(send("state.get", to=new_id()))[1].startswith("404: Thread with ID")
    assert send("state.get")["result"] == {"values": {}}


def test_state_list_checkpoints(
    send: Send, ran: Callable[[str, str], str], client: FlaskClient
) -> None:
    thread_id = ran("echo", "hi")
    history = client.get(f"/threads/{thread_id}/history").get_json()

    found = send("state.listCheckpoints", to=thread_id)["result"]["checkpoints"]

    assert [each["id"] for each in found] == [s["checkpoint"]["checkpoint_id"] for s in history]
    assert [each["step"] for each in found] == [1, 0, -1]
    assert found[0]["timestamp"] == history[0]["created_at"]
    nowhere = send("state.listCheckpoints", {"namespace": ["nobody:1"]}, to=thread_id)
    assert refused(nowhere) == ("no_such_namespace", "Unknown namespace: nobody:1")
    before = {"before": found[0]["id"], "limit": 1}
    [second] = send("state.listCheckpoints", before, to=thread_id)["result"]["checkpoints"]
    assert second == found[1]
    assert refused(send("state.listCheckpoints", {"limit": 0}))[0] == "invalid_argument"


def test_state_fork(send: Send, ran: Callable[[str, str], str], client: FlaskClient) -> None:
    thread_id = ran("echo", "hi")
    [_, checkpoint, _] = client.get(f"/threads/{thread_id}/history").get_json()
    checkpoint_id = checkpoint["checkpoint"]["checkpoint_id"]
    params = {"checkpoint_id": checkpoint_id, "input": {"value": "b"}, "config": {"tags": ["t"]}}

    result = send("state.fork", params, to=thread_id)["result"]

    [run] = client.get(f"/threads/{thread_id}/runs").get_json()
    assert result == {"run_id": run["run_id"], "thread_id": thread_id}
    assert run["kwargs"]["config"]["configurable"]["checkpoint_id"] == checkpoint_id
    assert run["kwargs"]["config"]["tags"] == ["t"]
    assert run["kwargs"]["input"] == {"value": "b"}


def test_state_fork__refused(send: Send, ran: Callable[[str, str], str]) -> None:
    thread_id = ran("echo", "hi")

    assert refused(send("state.fork", to=thread_id))[0] == "invalid_argument"
    told = refused(send("state.fork", {"checkpoint_id": "nope"}, to=thread_id))
    assert told == ("no_such_checkpoint", "Unknown checkpoint: nope")


# agent


@pytest.mark.parametrize(
    ("run", "thread", "status"),
    [
        ("pending", "busy", "started"),
        ("running", "busy", "running"),
        ("success", "idle", "completed"),
        ("success", "interrupted", "interrupted"),
        ("interrupted", "idle", "interrupted"),
        ("error", "error", "failed"),
        ("timeout", "error", "failed"),
    ],
)
def test_agent_get_tree(
    send: Send, sql: Sql, thread_id: str, run: str, thread: str, status: str
) -> None:
    send("run.start", START)
    sql(f"UPDATE run SET {_as(run)} WHERE thread_id = :t", t=thread_id)
    sql("UPDATE thread SET status = :s WHERE thread_id = :t", s=thread, t=thread_id)

    tree = send("agent.getTree")["result"]["tree"]

    assert tree == {"namespace": [], "status": status, "graph_name": "echo"}


def _as(status: str) -> str:
    match status:
        case "pending":
            return "status = 'pending'"
        case "running":
            return "status = 'running', started_at = now(), lease_owner = 'w', fence = 1, attempt = 1, claim_id = gen_random_uuid(), lease_expires_at = now() + interval '1 hour'"
        case _:
            return f"status = '{status}', ended_at = now()"


def test_agent_get_tree__of_no_run(send: Send) -> None:
    told = refused(send("agent.getTree"))

    assert told == ("no_such_run", "No active run is bound to this thread.")
    assert refused(send("agent.getTree", {"run_id": new_id()}))[0] == "no_such_run"
    assert refused(send("agent.getTree", {"run_id": 1}))[0] == "invalid_argument"
