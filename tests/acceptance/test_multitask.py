"""A run is created on a thread that is busy: rejected, queued, or instead of what is there."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langgraph_sdk.errors import ConflictError

from acceptance.course import Course
from acceptance.ends import status, thread_of
from acceptance.system import System


@pytest.mark.parametrize("waits", [False, True])
def test_reject(client: Any, thread_id: str, hold: Any, course: Course, waits: bool) -> None:
    first = (
        client.runs.create(thread_id, "steps", input={}, after_seconds=60)["run_id"]
        if waits
        else hold()
    )

    with pytest.raises(ConflictError, match="Thread is already running a task"):
        client.runs.create(thread_id, "steps", input={}, multitask_strategy="reject")

    assert [run["run_id"] for run in client.runs.list(thread_id)] == [first]
    client.runs.cancel(thread_id, first, wait=True)
    client.runs.wait(thread_id, "steps", input={"hold": []}, multitask_strategy="reject")


def test_reject__a_hundred_answers_at_once(
    server: System, client: Any, thread_id: str, course: Course, clients: ThreadPoolExecutor
) -> None:
    given = course.input(hold=("between",))
    client.runs.wait(thread_id, "two_questions", input=given)
    body = {
        "assistant_id": "two_questions",
        "command": {"resume": "yes"},
        "multitask_strategy": "reject",
    }

    path = f"/threads/{thread_id}/runs"
    answers = [
        each.status
        for each in clients.map(lambda _: server.request("POST", path, body), range(100))
    ]

    assert sorted(answers) == [200] + [409] * 99
    assert len(client.runs.list(thread_id)) == 2
    course.open("between")


def test_interrupt(client: Any, thread_id: str, hold: Any, course: Course) -> None:
    first = hold()
    waiting = client.runs.create(thread_id, "steps", input={})["run_id"]

    new = client.runs.create(
        thread_id, "steps", input={"hold": [], "name": "new"}, multitask_strategy="interrupt"
    )

    assert status(client, thread_id, waiting) == "interrupted"
    assert client.runs.join(thread_id, new["run_id"])["log"] == ["one", "one", "two", "three"]
    assert status(client, thread_id, first) == "interrupted"
    assert thread_of(client, thread_id) == ("idle", None)


def test_interrupt__the_thread_names_who_superseded(
    client: Any, thread_id: str, hold: Any, course: Course
) -> None:
    first = hold()

    new = client.runs.create(
        thread_id,
        "steps",
        input=course.input(hold=("three",), name="new"),
        multitask_strategy="interrupt",
    )
    course.wait_until_notes("new>three")

    message = f"superseded by run {new['run_id']} (multitask_strategy=interrupt)"
    error = {"error": "UserInterrupt", "message": message}
    assert thread_of(client, thread_id) == ("busy", error)
    assert status(client, thread_id, first) == "interrupted"
    course.open("three")


def test_rollback(client: Any, thread_id: str, hold: Any) -> None:
    first = hold()
    waiting = client.runs.create(thread_id, "steps", input={})["run_id"]

    new = client.runs.create(thread_id, "steps", input={}, multitask_strategy="rollback")

    assert client.runs.join(thread_id, new["run_id"])["log"] == ["one", "two", "three"]
    assert [run["run_id"] for run in client.runs.list(thread_id)] == [new["run_id"]]
    assert not {first, waiting} & {
        (each["metadata"] or {}).get("run_id") for each in client.threads.get_history(thread_id)
    }


@pytest.mark.parametrize("strategy", ["reject", "interrupt", "rollback", "enqueue"])
def test_strategies__on_a_quiet_thread(client: Any, thread_id: str, strategy: str) -> None:
    values = client.runs.wait(thread_id, "steps", input={}, multitask_strategy=strategy)

    assert values["log"] == ["one", "two", "three"]
