"""Threads, their state and their history."""

import uuid
from typing import Any

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError

from acceptance.course import Course

EMPTY = {
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


def test_create(client: Any) -> None:
    thread = client.threads.create(metadata={"owner": "ada"})

    assert uuid.UUID(thread["thread_id"]).version == 7
    assert (thread["status"], thread["metadata"]) == ("idle", {"owner": "ada"})
    assert (thread["config"], thread["values"]) == ({}, None)
    assert (thread["interrupts"], thread["error"]) == ({}, None)
    assert client.threads.get(thread["thread_id"]) == thread


def test_create__with_an_id(client: Any) -> None:
    thread_id = str(uuid.uuid4())

    assert client.threads.create(thread_id=thread_id)["thread_id"] == thread_id


def test_create__twice(client: Any) -> None:
    thread = client.threads.create(metadata={"n": 1})
    thread_id = thread["thread_id"]

    with pytest.raises(ConflictError, match=f"Thread with ID {thread_id} already exists"):
        client.threads.create(thread_id=thread_id)

    again = client.threads.create(thread_id=thread_id, if_exists="do_nothing", metadata={"n": 2})
    assert again == thread


def test_get__unknown(client: Any) -> None:
    with pytest.raises(NotFoundError, match="not found"):
        client.threads.get(str(uuid.uuid4()))


def test_get__after_a_run(client: Any, thread_id: str) -> None:
    config = {"tags": ["t"], "recursion_limit": 7}
    client.runs.wait(thread_id, "compiled", input={"said": ["hi"]}, config=config)

    thread = client.threads.get(thread_id)

    assert thread["status"] == "idle"
    assert thread["values"] == {"said": ["hi", "compiled"]}
    assert thread["metadata"]["graph_id"] == "compiled"
    assert thread["config"] == {"tags": ["t"], "recursion_limit": 7, "configurable": {}}


def test_get__busy_from_the_moment_a_run_is_accepted(
    client: Any, thread_id: str, course: Course
) -> None:
    run = client.runs.create(thread_id, "steps", input=course.input(hold=("one",)))

    assert client.threads.get(thread_id)["status"] == "busy"
    course.open("one")
    client.runs.join(thread_id, run["run_id"])
    assert client.threads.get(thread_id)["status"] == "idle"


def test_get_state__before_any_run(client: Any, thread_id: str) -> None:
    assert client.threads.get_state(thread_id) == EMPTY


def test_get_state__of_an_unknown_thread(client: Any) -> None:
    with pytest.raises(NotFoundError):
        client.threads.get_state(str(uuid.uuid4()))


def test_get_state(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "hitl", input={"value": "v"})

    state = client.threads.get_state(thread_id)

    assert state["values"] == {"value": "v", "log": ["prepare"]}
    assert state["next"] == ["ask"]
    [task] = state["tasks"]
    assert (task["name"], task["error"], task["result"]) == ("ask", None, None)
    assert [each["value"] for each in task["interrupts"]] == [
        {"question": "approve?", "value": "v"}
    ]
    assert state["interrupts"] == task["interrupts"]
    assert state["checkpoint"]["thread_id"] == thread_id
    assert state["checkpoint"]["checkpoint_ns"] == ""
    assert state["checkpoint"]["checkpoint_id"] == state["checkpoint_id"]
    metadata = state["metadata"]
    assert (metadata["source"], metadata["step"], metadata["run_attempt"]) == ("loop", 1, 1)
    assert metadata["graph_id"] == "hitl"


def test_get_state__of_a_subgraph(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "nested_question", input={"value": "v"})

    [outer] = client.threads.get_state(thread_id)["tasks"]
    [inner] = client.threads.get_state(thread_id, subgraphs=True)["tasks"]

    assert outer["state"] is None
    assert outer["checkpoint"]["checkpoint_ns"] == f"child:{outer['id']}"
    assert inner["checkpoint"] is None
    assert inner["state"]["next"] == ["ask"]
    assert inner["state"]["values"]["log"] == ["prepare"]


def test_get_history(client: Any, thread_id: str, course: Course) -> None:
    client.runs.wait(thread_id, "steps", input=course.input())

    history = client.threads.get_history(thread_id)

    assert [state["values"]["log"] for state in history] == [
        ["one", "two", "three"],
        ["one", "two"],
        ["one"],
        [],
        [],
    ]
    assert [state["next"] for state in history] == [
        [],
        ["three"],
        ["two"],
        ["one"],
        ["__start__"],
    ]
    sources = [(state["metadata"]["source"], state["metadata"]["step"]) for state in history]
    assert sources == [("loop", 3), ("loop", 2), ("loop", 1), ("loop", 0), ("input", -1)]
    parents = [state["parent_checkpoint_id"] for state in history]
    assert parents == [*(state["checkpoint_id"] for state in history[1:]), None]


def test_get_history__in_parts(client: Any, thread_id: str, course: Course) -> None:
    client.runs.wait(thread_id, "steps", input=course.input())
    whole = client.threads.get_history(thread_id)

    first = client.threads.get_history(thread_id, limit=2)
    rest = client.threads.get_history(thread_id, before=first[-1]["checkpoint"])
    inputs = client.threads.get_history(thread_id, metadata={"source": "input"})

    assert first + rest == whole
    assert inputs == whole[-1:]


def test_get_state__at_a_checkpoint(client: Any, thread_id: str, course: Course) -> None:
    client.runs.wait(thread_id, "steps", input=course.input())
    past = client.threads.get_history(thread_id)[1]

    by_id = client.threads.get_state(thread_id, checkpoint_id=past["checkpoint_id"])
    by_checkpoint = client.threads.get_state(thread_id, checkpoint=past["checkpoint"])

    assert by_id == by_checkpoint == past


def test_get_history__of_a_subgraph(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "nested_question", input={"value": "v"})
    [task] = client.threads.get_state(thread_id)["tasks"]

    history = client.threads.get_history(
        thread_id, checkpoint={"checkpoint_ns": task["checkpoint"]["checkpoint_ns"]}
    )

    assert [state["next"] for state in history] == [["ask"], ["__start__"]]


def test_search_and_count(client: Any) -> None:
    mark = {"mark": str(uuid.uuid4())}
    ids = [client.threads.create(metadata={**mark, "n": n})["thread_id"] for n in range(3)]

    found = client.threads.search(metadata=mark, limit=2)

    assert [thread["thread_id"] for thread in found] == [ids[2], ids[1]]
    assert client.threads.count(metadata=mark) == 3
    assert client.threads.count(metadata=mark, status="busy") == 0


def test_update(client: Any) -> None:
    thread = client.threads.create(metadata={"a": 1, "b": {"c": 2}})

    updated = client.threads.update(thread["thread_id"], metadata={"b": 3})

    assert updated["metadata"] == {"a": 1, "b": 3}
