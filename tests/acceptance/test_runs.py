"""Runs through the official clients: create, wait, join, get, list; on a thread and stateless."""

import uuid
from datetime import datetime
from typing import Any

import pytest
from langgraph_sdk.errors import BadRequestError, NotFoundError, UnprocessableEntityError

from acceptance.course import Course
from acceptance.system import wait_for


def test_create(client: Any, thread_id: str, course: Course) -> None:
    told: list[Any] = []
    given = course.input(hold=("one",))

    run = client.runs.create(
        thread_id, "steps", input=given, metadata={"m": 1}, on_run_created=told.append
    )

    assert uuid.UUID(run["run_id"]).version == 7
    assert told == [{"run_id": run["run_id"], "thread_id": thread_id}]
    assert (run["status"], run["thread_id"]) == ("pending", thread_id)
    assert (run["multitask_strategy"], run["metadata"]["m"]) == ("enqueue", 1)
    assert run["kwargs"]["input"] == given
    assert run["kwargs"]["durability"] == "async"
    course.wait_until_notes(">one")
    assert client.runs.get(thread_id, run["run_id"])["status"] == "running"
    course.open("one")
    assert client.runs.join(thread_id, run["run_id"])["log"] == ["one", "two", "three"]
    assert client.runs.get(thread_id, run["run_id"])["status"] == "success"


def test_wait(client: Any, thread_id: str) -> None:
    values = client.runs.wait(thread_id, "compiled", input={"said": ["hi"]})

    assert values == {"said": ["hi", "compiled"]}


def test_wait__goes_on_from_the_threads_state(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "compiled", input={"said": ["a"]})

    values = client.runs.wait(thread_id, "compiled", input={"said": ["b"]})

    assert values == {"said": ["a", "compiled", "b", "compiled"]}


def test_wait__large_values(client: Any, thread_id: str) -> None:
    """More than the event log takes: the values come from Postgres."""
    large = "x" * 3_000_000

    values = client.runs.wait(thread_id, "compiled", input={"said": [large]})

    assert values == {"said": [large, "compiled"]}
    assert client.threads.get(thread_id)["values"] == values


def test_join__after_the_end(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "compiled", input={"said": []})
    [run] = client.runs.list(thread_id)

    assert client.runs.join(thread_id, run["run_id"]) == {"said": ["compiled"]}


def test_list(client: Any, thread_id: str) -> None:
    created = [
        client.runs.create(thread_id, "compiled", input={"said": []})["run_id"] for _ in range(3)
    ]
    client.runs.join(thread_id, created[-1])

    assert [run["run_id"] for run in client.runs.list(thread_id)] == created[::-1]
    [middle] = client.runs.list(thread_id, limit=1, offset=1)
    assert middle["run_id"] == created[1]
    assert client.runs.list(thread_id, limit=1, select=["run_id", "status"]) == [
        {"run_id": created[2], "status": "success"}
    ]
    assert len(client.runs.list(thread_id, status="success")) == 3
    assert client.runs.list(thread_id, status="error") == []


def test_get__unknown(client: Any, thread_id: str) -> None:
    with pytest.raises(NotFoundError, match="Not Found"):
        client.runs.get(thread_id, str(uuid.uuid4()))


def test_wait__stateless(client: Any) -> None:
    told: list[Any] = []

    values = client.runs.wait(None, "compiled", input={"said": ["hi"]}, on_run_created=told.append)

    assert values == {"said": ["hi", "compiled"]}
    with pytest.raises(NotFoundError):
        client.threads.get(told[0]["thread_id"])


def test_wait__stateless_and_kept(client: Any) -> None:
    told: list[Any] = []

    client.runs.wait(
        None,
        "compiled",
        input={"said": []},
        on_completion="keep",
        on_run_created=told.append,
    )

    assert client.threads.get(told[0]["thread_id"])["values"] == {"said": ["compiled"]}


def test_create__stateless(client: Any, course: Course) -> None:
    run = client.runs.create(None, "steps", input=course.input())

    course.wait_until_notes("<three")
    assert run["status"] == "pending"
    assert run["kwargs"]["temporary"] is True


def test_create_batch(client: Any, course: Course) -> None:
    payloads = [
        {"assistant_id": "steps", "input": course.input(name=name)} for name in ("a", "b", "c")
    ]

    runs = client.runs.create_batch(payloads)

    assert len({run["run_id"] for run in runs}) == len({run["thread_id"] for run in runs}) == 3
    for name in ("a", "b", "c"):
        course.wait_until_notes(f"{name}<three")


def test_config_context_metadata(client: Any, thread_id: str) -> None:
    told: list[Any] = []

    values = client.runs.wait(
        thread_id,
        "mirror",
        input={},
        context={"name": "ada"},
        config={
            "tags": ["t1"],
            "recursion_limit": 11,
            "max_concurrency": 3,
            "metadata": {"trip": "the run's own counts", "leg": 2},
        },
        metadata={"trip": 7},
        on_run_created=told.append,
    )

    seen = values["seen"]
    assert (seen["name"], seen["recursion_limit"], seen["max_concurrency"]) == ("ada", 11, 3)
    assert "t1" in seen["tags"]
    assert (seen["metadata"]["trip"], seen["metadata"]["leg"]) == (7, 2)
    assert seen["metadata"]["run_attempt"] == 1
    assert seen["configurable"]["thread_id"] == thread_id
    assert seen["configurable"]["run_id"] == told[0]["run_id"]
    assert seen["configurable"]["graph_id"] == "mirror"


@pytest.mark.parametrize(
    "given",
    [
        {"context": {"name": "ada", "more": 1}},
        {"config": {"configurable": {"name": "ada", "more": 1}}},
    ],
    ids=["context", "configurable"],
)
def test_context_and_configurable__mirror_each_other(client: Any, given: Any) -> None:
    seen = client.runs.wait(None, "mirror", input={}, **given)["seen"]

    assert seen["name"] == "ada"
    assert (seen["configurable"]["name"], seen["configurable"]["more"]) == ("ada", 1)


def test_context_and_configurable__not_both(client: Any) -> None:
    with pytest.raises(BadRequestError, match="Cannot specify both"):
        client.runs.create(
            None, "mirror", input={}, context={"a": 1}, config={"configurable": {"b": 1}}
        )


def test_configurable__cannot_pretend_to_be_somebody(client: Any, thread_id: str) -> None:
    forged = {"thread_id": str(uuid.uuid4()), "run_id": "x", "langgraph_auth_user_id": "root"}

    values = client.runs.wait(thread_id, "mirror", input={}, config={"configurable": forged})

    seen = values["seen"]["configurable"]
    assert seen["thread_id"] == thread_id
    assert seen["run_id"] != "x"
    assert seen.get("langgraph_auth_user_id", "") != "root"


def test_if_not_exists(client: Any) -> None:
    thread_id = str(uuid.uuid4())

    with pytest.raises(NotFoundError, match="Thread or assistant not found"):
        client.runs.create(thread_id, "compiled", input={"said": []})
    values = client.runs.wait(thread_id, "compiled", input={"said": []}, if_not_exists="create")

    assert values == {"said": ["compiled"]}
    assert client.threads.get(thread_id)["metadata"]["graph_id"] == "compiled"


@pytest.mark.parametrize(("durability", "kept"), [("sync", 5), ("async", 5), ("exit", 1)])
def test_durability(
    client: Any, thread_id: str, course: Course, durability: str, kept: int
) -> None:
    values = client.runs.wait(thread_id, "steps", input=course.input(), durability=durability)

    assert values["log"] == ["one", "two", "three"]
    assert len(client.threads.get_history(thread_id)) == kept
    assert client.threads.get(thread_id)["values"] == values


def test_after_seconds(client: Any, thread_id: str, course: Course) -> None:
    run = client.runs.create(thread_id, "steps", input=course.input(), after_seconds=1)

    assert client.threads.get(thread_id)["status"] == "busy"
    client.runs.join(thread_id, run["run_id"])
    run = client.runs.get(thread_id, run["run_id"])
    assert run["status"] == "success"
    created, ended = (datetime.fromisoformat(run[key]) for key in ("created_at", "updated_at"))
    assert (ended - created).total_seconds() >= 1


def test_checkpoint_id__forks(client: Any, thread_id: str, course: Course) -> None:
    client.runs.wait(thread_id, "steps", input=course.input(name="first"))
    history = client.threads.get_history(thread_id)
    before_three = next(state for state in history if state["next"] == ["three"])

    values = client.runs.wait(thread_id, "steps", checkpoint_id=before_three["checkpoint_id"])

    assert values["log"] == ["one", "two", "three"]
    assert course.journal().count("first>three") == 2
    assert course.journal().count("first>two") == 1
    longer = client.threads.get_history(thread_id)
    assert longer[0]["checkpoint_id"] not in {state["checkpoint_id"] for state in history}
    assert {state["checkpoint_id"] for state in history} < {s["checkpoint_id"] for s in longer}


def test_checkpoint__with_new_input(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "compiled", input={"said": ["a"]})
    end_of_first = client.threads.get_state(thread_id)["checkpoint"]
    client.runs.wait(thread_id, "compiled", input={"said": ["b"]})

    values = client.runs.wait(thread_id, "compiled", input={"said": ["c"]}, checkpoint=end_of_first)

    assert values == {"said": ["a", "compiled", "c", "compiled"]}
    assert client.threads.get(thread_id)["values"] == values


# Runs that fail


def test_wait__failing(client: Any, thread_id: str) -> None:
    answer = client.runs.wait(thread_id, "failing", input={}, raise_error=False)

    assert answer == {"__error__": {"error": "ValueError", "message": "boom"}}
    [run] = client.runs.list(thread_id)
    assert run["status"] == "error"
    thread = client.threads.get(thread_id)
    assert (thread["status"], thread["error"]) == ("error", answer["__error__"])
    assert thread["values"] == {"log": ["one"]}
    [task] = client.threads.get_state(thread_id)["tasks"]
    assert (task["name"], "boom" in task["error"]) == ("fail", True)


def test_wait__failing_raises_in_the_client(client: Any) -> None:
    with pytest.raises(Exception, match="ValueError: boom"):
        client.runs.wait(None, "failing", input={})


def test_stream__failing(client: Any, thread_id: str) -> None:
    parts = list(client.runs.stream(thread_id, "failing", input={}, stream_mode="updates"))

    assert [part.event for part in parts] == ["metadata", "updates", "error"]
    assert parts[-1].data == {"error": "ValueError", "message": "boom"}


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        ("nasty", {"error": "RuntimeError", "message": "nul \ufffd, lone \ufffd and 😀 a pair"}),
        ("silent", {"error": "AssertionError", "message": ""}),
    ],
)
def test_wait__failing_with_odd_messages(client: Any, fail: str, error: Any) -> None:
    answer = client.runs.wait(None, "failing", input={"fail": fail}, raise_error=False)

    assert answer == {"__error__": error}


def test_wait__node_that_raises_cancelled(client: Any, thread_id: str) -> None:
    answer = client.runs.wait(thread_id, "failing", input={"fail": "cancelled"}, raise_error=False)

    # LangGraph's name for it.
    assert answer["__error__"]["error"] == "NodeCancelledError"
    assert client.threads.get(thread_id)["status"] == "error"


@pytest.mark.parametrize(
    ("graph_id", "given", "error"),
    [
        ("failing", {"fail": "exit"}, {"error": "SystemExit", "message": "3"}),
        ("quitting", {}, {"error": "SystemExit", "message": "3"}),
        ("failing", {"fail": "overdue"}, {"error": "Overdue", "message": "too late"}),
        ("failing", {"fail": "halt"}, {"error": "Overdue", "message": "stopped"}),
    ],
)
def test_wait__node_that_exits(
    client: Any, thread_id: str, course: Course, graph_id: str, given: Any, error: Any
) -> None:
    """
    sys.exit() in an async and in a blocking node ends its run, and no other.

    So does an error that is no `Exception`, and a node that stops the event loop.
    """
    bystander = client.runs.create(thread_id, "steps", input=course.input(hold=("two",)))
    course.wait_until_notes(">two")

    answer = client.runs.wait(None, graph_id, input=given, raise_error=False)

    assert answer == {"__error__": error}
    course.open("two")
    assert client.runs.join(thread_id, bystander["run_id"])["log"] == ["one", "two", "three"]
    assert course.journal().count(">two") == 1


def test_wait__nothing_to_go_on_from(client: Any, thread_id: str) -> None:
    answer = client.runs.wait(thread_id, "compiled", raise_error=False)

    assert answer["__error__"]["error"] == "EmptyInputError"


def test_wait__recursion_limit(client: Any, course: Course) -> None:
    answer = client.runs.wait(
        None, "steps", input=course.input(), config={"recursion_limit": 2}, raise_error=False
    )

    assert answer["__error__"]["error"] == "GraphRecursionError"


def test_failed_thread__goes_on_with_new_input(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "failing", input={}, raise_error=False)

    client.runs.wait(thread_id, "compiled", input={"said": []})

    thread = client.threads.get(thread_id)
    assert (thread["status"], thread["error"]) == ("idle", None)


def test_create__unknown_assistant(client: Any, thread_id: str) -> None:
    with pytest.raises(UnprocessableEntityError, match="One of the registered graphs: compiled,"):
        client.runs.create(thread_id, "no_such_graph", input={})
    with pytest.raises(NotFoundError):
        client.runs.create(thread_id, str(uuid.uuid4()), input={})

    assert client.runs.list(thread_id) == []


# Many runs


def test_one_thread__one_run_after_the_other(client: Any, thread_id: str, course: Course) -> None:
    names = [str(n) for n in range(6)]
    runs = [client.runs.create(thread_id, "steps", input=course.input(name=name)) for name in names]

    client.runs.join(thread_id, runs[-1]["run_id"])

    steps = ("one", "two", "three")
    expected = [f"{name}{mark}{step}" for name in names for step in steps for mark in "><"]
    assert course.journal() == expected
    statuses = {run["status"] for run in client.runs.list(thread_id)}
    assert statuses == {"success"}


def test_one_thread__a_failed_run_does_not_hold_up_the_next(
    client: Any, thread_id: str, course: Course
) -> None:
    client.runs.create(thread_id, "failing", input=course.input(hold=("one",)))
    second = client.runs.create(thread_id, "steps", input=course.input(hold=()))
    course.open("one")

    values = client.runs.join(thread_id, second["run_id"])

    assert values["log"][-3:] == ["one", "two", "three"]
    wait_for(lambda: client.threads.get(thread_id)["status"] == "idle", what="an idle thread")
