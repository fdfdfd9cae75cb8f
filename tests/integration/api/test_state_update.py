"""Changes of a thread's state by hand: what becomes of the state, of the thread, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from trellis.db.checkpoints import StagedBackend
from trellis.domain.ids import new_id
from trellis.errors import Conflict
from trellis.runtime import Runtime
from trellis.services import state_updates
from trellis.services.state_updates import Update

Sql = Callable[..., Any]
Ran = Callable[[str, str], str]
Post = Callable[..., Any]


@pytest.fixture
def post(client: FlaskClient) -> Post:
    """Post to a thread's state. Returns status and answer."""

    def to_state(thread_id: str, body: Any, rest: str = "") -> tuple[int, Any]:
        response = client.post(f"/threads/{thread_id}/state{rest}", json=body)
        return response.status_code, response.get_json()

    return to_state


@pytest.fixture
def read(client: FlaskClient) -> Callable[[str], Any]:
    return lambda thread_id: client.get(f"/threads/{thread_id}/state").get_json()


@pytest.fixture
def enqueue(client: FlaskClient) -> Callable[[str], str]:
    """Put a run on a thread. No worker is there to take it."""

    def on_thread(thread_id: str) -> str:
        body = {"assistant_id": "echo", "input": {"value": "x"}}
        run_id: str = client.post(f"/threads/{thread_id}/runs", json=body).get_json()["run_id"]
        return run_id

    return on_thread


def test_update(client: FlaskClient, ran: Ran, post: Post, read: Any) -> None:
    thread_id = ran("hitl", "v1")
    before = read(thread_id)

    status, made = post(thread_id, {"values": {"log": ["manual"]}})

    after = read(thread_id)
    assert status == 200
    assert list(made) == ["checkpoint", "configurable", "checkpoint_id"]
    assert list(made["checkpoint"]) == ["thread_id", "checkpoint_ns", "checkpoint_id"]
    assert made["configurable"] == made["checkpoint"] == after["checkpoint"]
    assert after["parent_checkpoint"] == before["checkpoint"]
    assert after["values"] == {"value": "v1", "log": ["V1", "manual"]}
    assert (after["next"], after["interrupts"]) == (["ask"], [])
    metadata = after["metadata"]
    assert (metadata["source"], metadata["step"], metadata["graph_id"]) == ("update", 2, "hitl")


def test_update__settles_the_thread(client: FlaskClient, ran: Ran, post: Post, sql: Sql) -> None:
    thread_id = ran("hitl", "v1")
    sql(
        "UPDATE thread SET status = 'error', error = '{}', interrupts = '{\"t\": []}' "
        "WHERE thread_id = :id RETURNING 1",
        id=thread_id,
    )
    before = client.get(f"/threads/{thread_id}").get_json()

    post(thread_id, {"values": {"log": ["a"]}})
    waiting = client.get(f"/threads/{thread_id}").get_json()
    post(thread_id, {"values": {"log": ["b"]}, "as_node": "ask"})
    done = client.get(f"/threads/{thread_id}").get_json()

    assert (waiting["status"], waiting["error"], waiting["interrupts"]) == ("interrupted", None, {})
    assert (done["status"], done["values"]["log"]) == ("idle", ["V1", "a", "b"])
    assert before["state_updated_at"] < waiting["state_updated_at"] < done["state_updated_at"]


def test_update__as_node(ran: Ran, post: Post, read: Any) -> None:
    thread_id = ran("hitl", "v1")

    post(thread_id, {"values": {"log": ["by hand"]}, "as_node": "ask"})

    assert (read(thread_id)["next"], read(thread_id)["values"]["log"]) == ([], ["V1", "by hand"])


@pytest.mark.parametrize("body", [{}, {"values": None}])
def test_update__with_nothing(ran: Ran, post: Post, read: Any, body: Any) -> None:
    thread_id = ran("hitl", "v1")

    status, made = post(thread_id, body)

    assert (status, read(thread_id)["checkpoint_id"]) == (200, made["checkpoint_id"])
    assert read(thread_id)["values"] == {"value": "v1", "log": ["V1"]}


def test_update__null_as_node_marks_it_as_done(ran: Ran, post: Post, read: Any) -> None:
    thread_id = ran("hitl", "v1")

    post(thread_id, {"values": None, "as_node": "ask"})

    assert (read(thread_id)["next"], read(thread_id)["values"]["log"]) == ([], ["V1"])


def test_update__unknown_keys_are_ignored(ran: Ran, post: Post, read: Any) -> None:
    thread_id = ran("hitl", "v1")

    status, _ = post(thread_id, {"values": {"bogus": 1}})

    assert (status, read(thread_id)["values"]) == (200, {"value": "v1", "log": ["V1"]})


def test_update__end_clears_what_is_next(ran: Ran, post: Post, read: Any) -> None:
    thread_id = ran("hitl", "v1")

    post(thread_id, {"values": None, "as_node": "__end__"})

    assert (read(thread_id)["next"], read(thread_id)["tasks"]) == ([], [])


def test_update__as_input(ran: Ran, post: Post, read: Any) -> None:
    thread_id = ran("echo", "v1")

    post(thread_id, {"values": {"value": "again"}, "as_node": "__input__"})

    assert (read(thread_id)["next"], read(thread_id)["metadata"]["source"]) == (
        ["__start__"],
        "input",
    )


@pytest.mark.parametrize("form", ["checkpoint", "checkpoint_id"])
def test_update__forks_from_a_checkpoint(ran: Ran, post: Post, read: Any, form: str) -> None:
    thread_id = ran("hitl", "v1")
    parent = read(thread_id)["parent_checkpoint"]
    where = parent if form == "checkpoint" else parent["checkpoint_id"]

    post(thread_id, {"values": {"log": ["FORK"]}, "as_node": "prep", form: where})

    head = read(thread_id)
    assert head["values"] == {"value": "v1", "log": ["FORK"]}
    assert (head["next"], head["parent_checkpoint"]) == (["ask"], parent)


def test_update__copies_a_checkpoint(ran: Ran, post: Post, read: Any) -> None:
    thread_id = ran("hitl", "v1")
    parent = read(thread_id)["parent_checkpoint"]

    post(thread_id, {"values": None, "as_node": "__copy__", "checkpoint": parent})

    head = read(thread_id)
    assert (head["metadata"]["source"], head["next"]) == ("fork", ["prep"])
    assert head["values"] == {"value": "v1", "log": []}
    assert head["checkpoint_id"] != parent["checkpoint_id"]


def test_update__copies_and_changes_at_once(ran: Ran, post: Post, read: Any) -> None:
    thread_id = ran("hitl", "v1")
    parent = read(thread_id)["parent_checkpoint"]
    body = {"values": [[{"log": ["new"]}, "prep"]], "as_node": "__copy__", "checkpoint": parent}

    post(thread_id, body)

    assert (read(thread_id)["values"]["log"], read(thread_id)["next"]) == (["new"], ["ask"])


def test_update__of_a_subgraph(client: FlaskClient, ran: Ran, post: Post, read: Any) -> None:
    thread_id = ran("nested", "a")
    [task] = read(thread_id)["tasks"]

    status, made = post(thread_id, {"values": {"value": "SUB"}, "checkpoint": task["checkpoint"]})

    inner = client.post(
        f"/threads/{thread_id}/state/checkpoint", json={"checkpoint": task["checkpoint"]}
    ).get_json()
    assert status == 200
    assert made["checkpoint"]["checkpoint_ns"] == task["checkpoint"]["checkpoint_ns"]
    assert list(made["checkpoint"])[-1] == "checkpoint_map"
    assert inner["values"]["value"] == "SUB"
    assert read(thread_id)["next"] == ["child"]
    assert client.get(f"/threads/{thread_id}").get_json()["status"] == "interrupted"


def test_update__of_a_thread_on_which_nothing_ran(
    client: FlaskClient, post: Post, read: Any
) -> None:
    body = {"metadata": {"graph_id": "hitl"}}
    thread_id = client.post("/threads", json=body).get_json()["thread_id"]

    status, _ = post(thread_id, {"values": {"value": "v", "log": []}, "as_node": "prep"})

    assert (status, read(thread_id)["next"]) == (200, ["ask"])
    assert client.get(f"/threads/{thread_id}").get_json()["status"] == "interrupted"


def test_update_many(ran: Ran, post: Post, client: FlaskClient, read: Any) -> None:
    thread_id = ran("hitl", "v1")
    steps = [
        {"updates": [{"values": {"value": "v2"}, "as_node": "prep"}]},
        {"updates": [{"values": {"log": ["x"]}, "as_node": "prep"}]},
        {"updates": [{"command": {"update": {"log": ["y"]}}, "as_node": "ask"}]},
    ]

    status, made = post(thread_id, {"supersteps": steps}, "/bulk")

    history = client.get(f"/threads/{thread_id}/history?limit=3").get_json()
    assert (status, made["checkpoint_id"]) == (200, history[0]["checkpoint_id"])
    assert [state["values"]["log"] for state in history] == [["V1", "x", "y"], ["V1", "x"], ["V1"]]
    assert read(thread_id)["values"]["value"] == "v2"


def test_update_many__all_or_nothing(ran: Ran, post: Post, read: Any, sql: Sql) -> None:
    thread_id = ran("hitl", "v1")
    before = read(thread_id)
    steps = [
        {"updates": [{"values": {"log": ["x"]}, "as_node": "prep"}]},
        {"updates": [{"values": {"log": ["y"]}, "as_node": "nobody"}]},
    ]

    status, answer = post(thread_id, {"supersteps": steps}, "/bulk")

    assert (status, answer) == (400, {"detail": "Node nobody does not exist"})
    assert read(thread_id) == before


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"values": {"log": ["x"]}, "as_node": "nobody"}, 400, "Node nobody does not exist"),
        ({"values": [{"log": ["x"]}], "as_node": "prep"}, 400, "Expected dict, got"),
        ({"values": {"log": 7}, "as_node": "prep"}, 400, "TypeError: can only concatenate list"),
        ({"values": None, "as_node": "__input__"}, 400, "Received no input writes"),
        ({"values": {}, "checkpoint_id": "nowhere"}, 404, "Checkpoint nowhere not found"),
        ({"values": {}, "checkpoint": {"checkpoint_ns": "nobody:x"}}, 400, "Subgraph nobody"),
        ({"values": {}, "checkpoint": {"checkpoint_ns": "x" * 601}}, 422, "600"),
        ({"values": [[1]], "as_node": "__copy__"}, 400, "ValueError"),
        ({"values": "text"}, 422, "values"),
        ({"values": {}, "as_node": 1}, 422, "as_node"),
        ({"values": {}, "checkpoint": "text"}, 422, "checkpoint"),
    ],
)
def test_update__refused(
    ran: Ran, post: Post, read: Any, sql: Sql, body: Any, status: int, reason: str
) -> None:
    thread_id = ran("hitl", "v1")
    before = read(thread_id)

    found, answer = post(thread_id, body)

    assert (found, reason in answer["detail"]) == (status, True), answer
    assert read(thread_id) == before
    assert sql("SELECT fence FROM thread WHERE thread_id = :id", id=thread_id) == 0


@pytest.mark.parametrize(
    "supersteps", [[], [{"updates": []}], [{"updates": [{"values": {}}]}], "text"]
)
def test_update_many__refused(ran: Ran, post: Post, supersteps: Any) -> None:
    status, _ = post(ran("echo", "v"), {"supersteps": supersteps}, "/bulk")

    assert status == 422


def test_update__of_no_thread(post: Post) -> None:
    thread_id = new_id()

    assert post(thread_id, {}) == (404, {"detail": f"Thread with ID {thread_id} not found"})


def test_update__of_somebody_elses_thread(ran: Ran, post: Post, sql: Sql) -> None:
    thread_id = ran("echo", "v")
    sql("UPDATE thread SET tenant_id = 'other' WHERE thread_id = :id RETURNING 1", id=thread_id)

    assert post(thread_id, {"values": {}})[0] == 404


def test_update__without_a_graph(post: Post, thread_id: str) -> None:
    status, answer = post(thread_id, {"values": {"a": 1}})

    assert (status, "has no assigned graph ID" in answer["detail"]) == (400, True)


def test_update__of_a_graph_that_cannot_be_imported(client: FlaskClient, post: Post) -> None:
    body = {"metadata": {"graph_id": "broken"}}
    thread_id = client.post("/threads", json=body).get_json()["thread_id"]

    status, answer = post(thread_id, {"values": {}})

    assert (status, "broken.py:3" in answer["detail"]) == (500, True)


def test_update__while_a_run_waits(ran: Ran, post: Post, enqueue: Any, read: Any) -> None:
    thread_id = ran("echo", "v")
    before = read(thread_id)
    run_id = enqueue(thread_id)

    status, answer = post(thread_id, {"values": {"log": ["u"]}})

    assert status == 409
    assert answer["detail"].startswith(f"Thread {thread_id} has in-flight runs: {run_id}.")
    assert read(thread_id) == before


Meanwhile = Callable[[Callable[[], Any]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Do something once, after an update was worked out and before it is stored."""
    close = StagedBackend.close

    def once(action: Callable[[], Any]) -> None:
        def closing(self: StagedBackend) -> None:
            close(self)
            monkeypatch.setattr(StagedBackend, "close", close)
            action()

        monkeypatch.setattr(StagedBackend, "close", closing)

    return once


def test_update__a_run_came_in_between(
    ran: Ran, post: Post, enqueue: Any, read: Any, meanwhile: Meanwhile
) -> None:
    thread_id = ran("echo", "v")
    before = read(thread_id)
    meanwhile(lambda: enqueue(thread_id))

    status, _ = post(thread_id, {"values": {"log": ["u"]}})

    assert (status, read(thread_id)) == (409, before)


def test_update__another_update_came_in_between(
    ran: Ran, post: Post, read: Any, meanwhile: Meanwhile
) -> None:
    """Both count, one after the other."""
    thread_id = ran("echo", "v")
    meanwhile(lambda: post(thread_id, {"values": {"log": ["first"]}}))

    status, _ = post(thread_id, {"values": {"log": ["second"]}})

    assert (status, read(thread_id)["values"]["log"]) == (200, ["V", "first", "second"])


def test_update__many_at_once(app: Flask, ran: Ran, read: Any) -> None:
    """All of them count, one after the other."""
    thread_id = ran("echo", "v")

    def update(n: int) -> int:
        body = {"values": {"log": [str(n)]}}
        return app.test_client().post(f"/threads/{thread_id}/state", json=body).status_code

    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(update, range(12)))

    assert answers == [200] * 12
    assert sorted(read(thread_id)["values"]["log"]) == sorted(["V", *map(str, range(12))])


def test_update__its_base_was_deleted_in_between(
    client: FlaskClient, ran: Ran, post: Post, sql: Sql, meanwhile: Meanwhile, rt: Runtime
) -> None:
    """It starts anew from what is left, and loses none of it."""
    from trellis.db.checkpoints import delete_for_runs

    thread_id, run_id = ran("hitl", "v"), new_id()
    head = client.get(f"/threads/{thread_id}/state").get_json()
    sql(
        "UPDATE checkpoint SET run_id = :run WHERE checkpoint_id = :id RETURNING 1",
        run=run_id,
        id=head["checkpoint_id"],
    )

    def delete() -> None:
        with rt.engine.begin() as tx:
            delete_for_runs(tx, [run_id])

    meanwhile(delete)
    status, _ = post(thread_id, {"values": {"log": ["u"]}, "as_node": "prep"})

    history = client.get(f"/threads/{thread_id}/history").get_json()
    assert status == 200
    assert history[0]["values"] == {"value": "v", "log": ["u"]}
    assert history[0]["parent_checkpoint"] == head["parent_checkpoint"]


def test_update__the_thread_was_deleted_in_between(
    client: FlaskClient, ran: Ran, post: Post, sql: Sql, meanwhile: Meanwhile
) -> None:
    thread_id = ran("echo", "v")
    meanwhile(lambda: client.delete(f"/threads/{thread_id}"))

    status, _ = post(thread_id, {"values": {"log": ["u"]}})

    assert status == 404
    assert sql("SELECT count(*) FROM checkpoint WHERE thread_id = :id", id=thread_id) == 0


def test_update__gives_up_when_the_thread_never_rests(
    ran: Ran, rt: Runtime, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id = ran("echo", "v")
    close = StagedBackend.close

    def closing(self: StagedBackend) -> None:
        close(self)
        sql("UPDATE thread SET fence = fence + 1 WHERE thread_id = :id RETURNING 1", id=thread_id)

    monkeypatch.setattr(StagedBackend, "close", closing)

    with pytest.raises(Conflict, match="Try again"):
        state_updates.update_state(rt, "default", thread_id, [[Update(values={"log": ["u"]})]])


def test_update__advances_the_fence(ran: Ran, post: Post, sql: Sql) -> None:
    """Whoever still holds an older claim writes nothing any more."""
    thread_id = ran("echo", "v")

    post(thread_id, {"values": {"log": ["u"]}})

    assert sql("SELECT fence FROM thread WHERE thread_id = :id", id=thread_id) == 1


def test_patch(client: FlaskClient, ran: Ran, read: Any) -> None:
    thread_id = ran("hitl", "v1")
    before = read(thread_id)

    response = client.patch(f"/threads/{thread_id}/state", json={"metadata": {"by": "ada"}})

    assert (response.status_code, response.data) == (204, b"")
    assert read(thread_id) == {**before, "metadata": {**before["metadata"], "by": "ada"}}
    body = {"metadata": {"by": "ada"}, "limit": 10}
    assert len(client.post(f"/threads/{thread_id}/history", json=body).get_json()) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"metadata": {"step": 9, "a": 1}}, "metadata may not set step"),
        ({"metadata": None}, "metadata"),
        ({}, "metadata"),
        ({"metadata": {"text": "x" * 70_000}}, "metadata is larger"),
    ],
)
def test_patch__refused(client: FlaskClient, ran: Ran, read: Any, body: Any, reason: str) -> None:
    thread_id = ran("hitl", "v1")
    before = read(thread_id)

    response = client.patch(f"/threads/{thread_id}/state", json=body)

    assert (response.status_code, reason in response.get_json()["detail"]) == (422, True)
    assert read(thread_id) == before


def test_patch__where_nothing_is(client: FlaskClient, thread_id: str, ran: Ran, sql: Sql) -> None:
    others = ran("echo", "v")
    sql("UPDATE thread SET tenant_id = 'other' WHERE thread_id = :id RETURNING 1", id=others)

    for each in (thread_id, others, new_id()):
        response = client.patch(f"/threads/{each}/state", json={"metadata": {"a": 1}})
        assert response.status_code == 404
    assert client.patch("/threads/x/state", json={"metadata": {}}).status_code == 422


def test_patch__while_a_run_waits(client: FlaskClient, ran: Ran, enqueue: Any) -> None:
    thread_id = ran("echo", "v")
    enqueue(thread_id)

    response = client.patch(f"/threads/{thread_id}/state", json={"metadata": {"a": 1}})

    assert response.status_code == 409
