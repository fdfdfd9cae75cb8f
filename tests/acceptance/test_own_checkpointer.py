"""A checkpointer of the operator's own, in a file, shared by real web and worker processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from acceptance.course import Course
from acceptance.system import ANSWER_SECONDS, READY_SECONDS, System, running, wait_for

PROJECT = Path(__file__).with_name("keeping")


@pytest.fixture(scope="module")
def keeping(
    new_system: Callable[..., System], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """A web process and a worker."""
    env = {
        "TRELLIS_CONFIG": str(PROJECT / "langgraph.json"),
        "CHECKPOINTS_FILE": str(tmp_path_factory.mktemp("checkpoints") / "kept.sqlite"),
    }
    with running(new_system(env=env)) as system:
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system


@pytest.fixture(scope="module")
def client(keeping: System) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=keeping.url, timeout=ANSWER_SECONDS) as client:
        yield client


@pytest.fixture
def thread_id(keeping: System) -> str:
    return keeping.new_thread()


@pytest.fixture
def kept(keeping: System) -> Callable[..., list[Any]]:
    """What the operator's checkpointer has."""

    def kept(thread_id: str, column: str = "id") -> list[Any]:
        with closing(sqlite3.connect(keeping.env["CHECKPOINTS_FILE"], timeout=30)) as file:
            found = f"SELECT {column} FROM checkpoint WHERE thread = ? ORDER BY id DESC"
            return [row[0] for row in file.execute(found, (thread_id,))]

    return kept


def say(client: SyncLangGraphClient, thread_id: str, text: str) -> list[str]:
    said = {"messages": [{"role": "user", "content": text}]}
    values = client.runs.wait(thread_id, "chat", input=said)
    return [message["content"] for message in values["messages"]]


def clear(system: System, thread_id: str) -> None:
    """Have what is left of a thread deleted now, and wait for it."""
    system.change(
        "UPDATE checkpoint_leftover SET due_at = clock_timestamp() WHERE thread_id = %s", thread_id
    )
    count = "SELECT count(*) FROM checkpoint_leftover WHERE thread_id = %s"
    wait_for(lambda: system.rows(count, thread_id) == [(0,)], what="the leftovers to go")


def test_turns(
    keeping: System, client: SyncLangGraphClient, thread_id: str, kept: Callable[..., list[Any]]
) -> None:
    say(client, thread_id, "one")

    answer = say(client, thread_id, "two")

    assert answer == ["one", "hello there", "yours, the graph", "two", "hello there"]
    state = client.threads.get_state(thread_id)
    assert [each["content"] for each in state["values"]["messages"]] == answer
    shown = client.threads.get(thread_id)["values"]["messages"]
    assert shown == state["values"]["messages"]
    history = client.threads.get_history(thread_id, limit=100)
    ids = [each["checkpoint"]["checkpoint_id"] for each in history]
    assert ids == kept(thread_id)
    for each in history:
        place = each["checkpoint"]["checkpoint_id"]
        assert client.threads.get_state(thread_id, checkpoint_id=place)["values"] == each["values"]
    assert keeping.rows("SELECT count(*) FROM checkpoint_blob") == [(0,)]
    secret = "SELECT count(*) FROM checkpoint WHERE position('hello there'::bytea IN body) > 0"
    assert keeping.rows(secret) == [(0,)]


def test_search__by_values(client: SyncLangGraphClient, thread_id: str) -> None:
    client.runs.wait(thread_id, "hitl", input={"value": thread_id})

    [found] = client.threads.search(values={"value": thread_id})

    assert found["thread_id"] == thread_id
    assert found["values"] == {"value": thread_id, "log": ["prepare"]}


def test_question__is_answered(client: SyncLangGraphClient, thread_id: str) -> None:
    asked = client.runs.wait(thread_id, "hitl", input={"value": "v"})
    assert asked["__interrupt__"][0]["value"] == {"question": "approve?", "value": "v"}
    assert client.threads.get_state(thread_id)["next"] == ["ask"]

    values = client.runs.wait(thread_id, "hitl", command={"resume": "yes"})

    assert values == {"value": "v", "answer": "yes", "log": ["prepare", "ask", "finish"]}


def test_fork_and_update(client: SyncLangGraphClient, thread_id: str, tmp_path: Path) -> None:
    client.runs.wait(thread_id, "steps", input=Course(tmp_path).input())
    history = client.threads.get_history(thread_id, limit=100)
    [origin] = [each["checkpoint"] for each in history if each["next"] == ["two"]]

    made = client.threads.update_state(
        thread_id, {"log": ["mine"]}, checkpoint_id=origin["checkpoint_id"]
    )
    values = client.runs.wait(
        thread_id, "steps", input=None, checkpoint_id=made["checkpoint"]["checkpoint_id"]
    )

    assert values["log"] == ["one", "mine", "two", "three"]
    newest = history[0]["checkpoint"]["checkpoint_id"]
    old = client.threads.get_state(thread_id, checkpoint_id=newest)
    assert old["values"]["log"] == ["one", "two", "three"]


def test_subgraphs(client: SyncLangGraphClient, thread_id: str, tmp_path: Path) -> None:
    folder = {"folder": str(tmp_path)}
    client.runs.wait(thread_id, "two_below", input=folder)
    state = client.threads.get_state(thread_id, subgraphs=True)
    assert state["tasks"][0]["state"]["values"]["log"] == ["a", "b"]

    client.runs.wait(thread_id, "two_below", command={"resume": "1"})
    values = client.runs.wait(thread_id, "two_below", command={"resume": "2"})

    assert values["log"] == ["a", "a", "b", "q1=1", "q2=2", "z"]


def test_copy__lives_on(
    keeping: System, client: SyncLangGraphClient, thread_id: str, kept: Callable[..., list[Any]]
) -> None:
    client.runs.wait(thread_id, "hitl", input={"value": "v"})
    copy = client.threads.copy(thread_id)["thread_id"]
    before = client.threads.get_history(copy)
    client.threads.delete(thread_id)
    clear(keeping, thread_id)

    values = client.runs.wait(copy, "hitl", command={"resume": "yes"})

    assert kept(thread_id) == []
    assert len(before) == 3
    assert values["log"] == ["prepare", "ask", "finish"]
    after = client.threads.get_history(copy)[-3:]
    assert [each["values"] for each in after] == [each["values"] for each in before]


def test_thread__is_made_again_right_after_it_was_deleted(
    keeping: System, client: SyncLangGraphClient, thread_id: str
) -> None:
    client.runs.wait(thread_id, "hitl", input={"value": "old"})
    client.threads.delete(thread_id)
    client.threads.create(thread_id=thread_id)

    client.runs.wait(thread_id, "hitl", input={"value": "new"})

    clear(keeping, thread_id)
    state = client.threads.get_state(thread_id)
    assert state["values"] == {"value": "new", "log": ["prepare"]}


def test_prune__keeps_the_latest(client: SyncLangGraphClient, thread_id: str) -> None:
    say(client, thread_id, "one")
    said = say(client, thread_id, "two")

    client.threads.prune([thread_id], strategy="keep_latest")

    [left] = client.threads.get_history(thread_id)
    assert [each["content"] for each in left["values"]["messages"]] == said
    assert say(client, thread_id, "three")[: len(said)] == said


def test_rollback(
    keeping: System,
    client: SyncLangGraphClient,
    thread_id: str,
    kept: Callable[..., list[Any]],
    tmp_path: Path,
) -> None:
    course = Course(tmp_path)
    client.runs.wait(thread_id, "steps", input=course.input())
    before, ids = client.threads.get_history(thread_id, limit=100), kept(thread_id)
    run = client.runs.create(thread_id, "steps", input=course.input(hold=("two",)))
    course.wait_until_notes(">two", times=2)

    client.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")

    assert client.threads.get_history(thread_id, limit=100) == before
    clear(keeping, thread_id)
    assert kept(thread_id) == ids


def test_storage__is_not_known(keeping: System, thread_id: str) -> None:
    answer = keeping.request("GET", f"/threads/{thread_id}/storage")

    assert answer.status == 501
    assert "checkpointer.path" in answer.json()["detail"]


def test_lost_values__are_said_to_be(
    keeping: System, client: SyncLangGraphClient, thread_id: str
) -> None:
    client.runs.wait(thread_id, "hitl", input={"value": "v"})
    with closing(sqlite3.connect(keeping.env["CHECKPOINTS_FILE"], timeout=30)) as file, file:
        file.execute("DELETE FROM value WHERE thread = ? AND channel = 'log'", (thread_id,))

    answers = [
        keeping.request("GET", f"/threads/{thread_id}{path}") for path in ("", "/state", "/history")
    ]

    assert [each.status for each in answers] == [502, 502, 502]
    assert all("The checkpointer has lost log of" in each.json()["detail"] for each in answers)
    run = client.runs.create(thread_id, "hitl", command={"resume": "yes"})
    client.runs.join(thread_id, run["run_id"])
    assert client.runs.get(thread_id, run["run_id"])["status"] == "error"


def test_stateless_run(client: SyncLangGraphClient) -> None:
    values = client.runs.wait(None, "hitl", input={"value": "v"})

    assert values["log"] == ["prepare"]


def test_crash__the_next_attempt_goes_on(
    keeping: System, client: SyncLangGraphClient, thread_id: str, tmp_path: Path
) -> None:
    """kill -9 in the middle of a node. What was put and has no row is never read."""
    [worker] = [each for each in keeping.processes if each.name.startswith("worker")]
    course = Course(tmp_path)
    run = client.runs.create(thread_id, "steps", input=course.input(hold=("two",)))
    course.wait_until_notes(">two")
    wait_for(lambda: len(client.threads.get_history(thread_id)) == 3, what="the first step")

    worker.kill()
    keeping.processes.remove(worker)
    course.open("two")
    keeping.start_worker()
    keeping.end_leases()

    wait_for(
        lambda: client.runs.get(thread_id, run["run_id"])["status"] == "success",
        seconds=2 * READY_SECONDS,
        what="the next attempt to end",
    )
    values = client.threads.get(thread_id)["values"]
    assert values["log"] == ["one", "two", "three"]
    assert course.journal() == [">one", "<one", ">two", ">two", "<two", ">three", "<three"]
    history = client.threads.get_history(thread_id)
    assert [each["metadata"]["step"] for each in history] == [3, 2, 1, 0, -1]
