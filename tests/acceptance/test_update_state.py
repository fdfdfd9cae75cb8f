"""A thread's state changed by hand through the official clients, and how runs go on from there."""

from typing import Any

import pytest
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError

from acceptance.course import Course


@pytest.fixture
def asked(client: Any, thread_id: str) -> str:
    """A thread on which `hitl` has asked its question."""
    client.runs.wait(thread_id, "hitl", input={"value": "v"})
    return thread_id


def test_update(client: Any, asked: str) -> None:
    made = client.threads.update_state(asked, {"log": ["by hand"]})

    state = client.threads.get_state(asked)
    thread = client.threads.get(asked)
    assert made["checkpoint"] == made["configurable"] == state["checkpoint"]
    assert (state["values"]["log"], state["next"]) == (["prepare", "by hand"], ["ask"])
    assert (thread["status"], thread["interrupts"]) == ("interrupted", {})
    assert thread["values"] == state["values"]


def test_update__and_go_on(client: Any, asked: str) -> None:
    client.threads.update_state(asked, {"answer": "by hand"}, as_node="ask")

    values = client.runs.wait(asked, "hitl")

    assert values == {"value": "v", "answer": "by hand", "log": ["prepare", "finish"]}
    assert client.threads.get(asked)["status"] == "idle"


def test_update__forks(client: Any, asked: str) -> None:
    past = client.threads.get_state(asked)["parent_checkpoint"]

    client.threads.update_state(asked, {"value": "w"}, as_node="prepare", checkpoint=past)
    asked_again = client.runs.wait(asked, "hitl")

    assert asked_again["__interrupt__"][0]["value"]["value"] == "w"
    assert len(client.threads.get_history(asked)) == 4


def test_update__copies(client: Any, asked: str) -> None:
    head = client.threads.get_state(asked)

    client.threads.update_state(asked, None, as_node="__copy__", checkpoint=head["checkpoint"])

    copy = client.threads.get_state(asked)
    assert (copy["values"], copy["next"]) == (head["values"], head["next"])
    assert copy["metadata"]["source"] == "fork"


def test_update__of_a_subgraph(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "nested_question", input={"value": "v"})
    [task] = client.threads.get_state(thread_id)["tasks"]

    client.threads.update_state(thread_id, {"value": "inner"}, checkpoint=task["checkpoint"])
    inner = client.threads.get_state(thread_id, checkpoint=task["checkpoint"])
    values = client.runs.wait(thread_id, "nested_question", command={"resume": "yes"})

    assert inner["values"]["value"] == "inner"
    assert values["answer"] == "yes"


def test_update__messages(client: Any, thread_id: str) -> None:
    """Their ids tell which are new: the reducer of the graph decides."""
    said = [{"role": "user", "content": "hi", "id": "m1"}]
    client.runs.wait(thread_id, "chat", input={"messages": said})

    change = {"role": "user", "content": "hello", "id": "m1"}
    client.threads.update_state(thread_id, {"messages": [change]})

    first, *rest = client.threads.get_state(thread_id)["values"]["messages"]
    assert (first["type"], first["content"], first["id"]) == ("human", "hello", "m1")
    assert [message["type"] for message in rest] == ["ai", "ai"]


def test_update__before_any_run(client: Any) -> None:
    thread = client.threads.create(metadata={"graph_id": "hitl"})
    thread_id = thread["thread_id"]

    client.threads.update_state(thread_id, {"value": "v", "log": ["seeded"]}, as_node="prepare")
    values = client.runs.wait(thread_id, "hitl", input=None)

    assert values["log"] == ["seeded"]
    assert values["__interrupt__"][0]["value"]["value"] == "v"


def test_update__while_a_run_is_not_over(client: Any, thread_id: str, course: Course) -> None:
    run = client.runs.create(thread_id, "steps", input=course.input(hold=("two",)))
    course.wait_until_notes(">two")

    with pytest.raises(ConflictError, match=f"has in-flight runs: {run['run_id']}"):
        client.threads.update_state(thread_id, {"log": ["u"]})

    course.open("two")
    assert client.runs.join(thread_id, run["run_id"])["log"] == ["one", "two", "three"]
    client.threads.update_state(thread_id, {"log": ["u"]})


def test_update__refused(client: Any, asked: str, thread_id: str) -> None:
    with pytest.raises(BadRequestError, match="Node nobody does not exist"):
        client.threads.update_state(asked, {}, as_node="nobody")
    with pytest.raises(BadRequestError, match="TypeError"):
        client.threads.update_state(asked, {"log": 1})
    with pytest.raises(NotFoundError, match="Checkpoint"):
        client.threads.update_state(asked, {}, checkpoint_id="nowhere")


def test_update__that_the_graph_could_not_go_on_from(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "checked", input={"count": 1})
    before = client.threads.get_state(thread_id)

    with pytest.raises(BadRequestError, match="ValidationError"):
        client.threads.update_state(thread_id, {"count": "many"}, as_node="add")
    with pytest.raises(BadRequestError, match="SystemExit: -1"):
        client.threads.update_state(thread_id, {"count": -1}, as_node="add")

    assert client.threads.get_state(thread_id) == before


def test_state__that_the_graph_refuses(client: Any, thread_id: str) -> None:
    """A run may leave such a state; asking for it is no failure of the server."""
    failed = client.runs.wait(thread_id, "checked", input={"count": "many"}, raise_error=False)

    assert failed["__error__"]["error"] == "ValidationError"
    with pytest.raises(BadRequestError, match="ValidationError"):
        client.threads.get_state(thread_id)
    assert client.threads.get(thread_id)["status"] == "error"


def test_update__without_a_graph(client: Any, thread_id: str) -> None:
    with pytest.raises(BadRequestError, match="has no assigned graph ID"):
        client.threads.update_state(thread_id, {"a": 1})
