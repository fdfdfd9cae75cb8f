"""Questions to a human: interrupt(), resume, update, goto, and stops before and after nodes."""

from typing import Any

import pytest

from acceptance.system import System


@pytest.fixture
def asked(client: Any, thread_id: str) -> str:
    """A thread on which `hitl` has asked its question."""
    client.runs.wait(thread_id, "hitl", input={"value": "v"})
    return thread_id


def test_wait__shows_the_question(client: Any, thread_id: str) -> None:
    values = client.runs.wait(thread_id, "hitl", input={"value": "v"})

    [question] = values.pop("__interrupt__")
    assert values == {"value": "v", "log": ["prepare"]}
    assert question["value"] == {"question": "approve?", "value": "v"}
    assert {*question} == {"value", "id"}


def test_thread__waits_for_the_human(client: Any, asked: str) -> None:
    thread = client.threads.get(asked)
    [task] = client.threads.get_state(asked)["tasks"]

    assert (thread["status"], thread["error"]) == ("interrupted", None)
    assert thread["interrupts"] == {task["id"]: task["interrupts"]}
    assert thread["values"] == {"value": "v", "log": ["prepare"]}
    assert client.runs.list(asked)[0]["status"] == "success"


def test_resume(client: Any, asked: str) -> None:
    values = client.runs.wait(asked, "hitl", command={"resume": "yes"})

    assert values == {"value": "v", "answer": "yes", "log": ["prepare", "ask", "finish"]}
    thread = client.threads.get(asked)
    assert (thread["status"], thread["interrupts"]) == ("idle", {})


@pytest.mark.parametrize("answer", [{"approved": True}, ["a", 1], 0, False, ""])
def test_resume__with_any_json(client: Any, asked: str, answer: Any) -> None:
    values = client.runs.wait(asked, "hitl", command={"resume": answer})

    assert values["answer"] == answer


def test_resume__with_null(server: System, client: Any, asked: str) -> None:
    """By name only: without one it says nothing, and the Python SDK leaves it out."""
    [[question]] = client.threads.get(asked)["interrupts"].values()
    body = {"assistant_id": "hitl", "command": {"resume": None}}

    refused = server.request("POST", f"/threads/{asked}/runs/wait", body)
    values = client.runs.wait(asked, "hitl", command={"resume": {question["id"]: None}})

    assert refused.status == 422
    assert values["answer"] is None
    assert values["log"] == ["prepare", "ask", "finish"]


def test_resume__streamed(client: Any, asked: str) -> None:
    parts = list(
        client.runs.stream(asked, "hitl", command={"resume": "yes"}, stream_mode="updates")
    )

    assert [part.data for part in parts[1:]] == [
        {"ask": {"answer": "yes", "log": ["ask"]}},
        {"finish": {"log": ["finish"]}},
    ]


def test_resume__by_interrupt_id(client: Any, asked: str) -> None:
    [question] = client.threads.get_state(asked)["interrupts"]
    unknown = "0" * len(question["id"])

    ignored = client.runs.wait(asked, "hitl", command={"resume": {unknown: "wrong"}})
    values = client.runs.wait(asked, "hitl", command={"resume": {question["id"]: "right"}})

    assert ignored["__interrupt__"] == [question]
    assert values["answer"] == "right"


def test_resume__many_by_id(client: Any, thread_id: str) -> None:
    asked = client.runs.wait(thread_id, "parallel_questions", input={"value": "v"})
    ids = {question["value"]: question["id"] for question in asked["__interrupt__"]}

    half = client.runs.wait(
        thread_id, "parallel_questions", command={"resume": {ids["right?"]: "r"}}
    )
    waiting = client.threads.get(thread_id)
    values = client.runs.wait(
        thread_id, "parallel_questions", command={"resume": {ids["left?"]: "l"}}
    )

    assert [question["value"] for question in half["__interrupt__"]] == ["left?"]
    assert half["log"] == ["right=r"]
    assert waiting["status"] == "interrupted"
    assert [*waiting["interrupts"].values()] == [half["__interrupt__"]]
    assert sorted(values["log"]) == ["left=l", "right=r"]


def test_resume__one_question_at_a_time(client: Any, thread_id: str) -> None:
    first = client.runs.wait(thread_id, "two_questions", input={"value": "v"})
    second = client.runs.wait(thread_id, "two_questions", command={"resume": 1})
    values = client.runs.wait(thread_id, "two_questions", command={"resume": 2})

    assert [question["value"] for question in first["__interrupt__"]] == ["first?"]
    assert [question["value"] for question in second["__interrupt__"]] == ["second?"]
    assert values["log"] == ["first=1", "second=2"]


def test_resume__in_a_subgraph(client: Any, thread_id: str) -> None:
    asked = client.runs.wait(thread_id, "nested_question", input={"value": "v"})
    [task] = client.threads.get_state(thread_id, subgraphs=True)["tasks"]
    thread = client.threads.get(thread_id)

    values = client.runs.wait(thread_id, "nested_question", command={"resume": "yes"})

    [inner] = task["state"]["tasks"]
    assert thread["interrupts"] == {inner["id"]: asked["__interrupt__"]}
    assert values["answer"] == "yes"


def test_command__update(client: Any, asked: str) -> None:
    as_object = client.runs.wait(asked, "hitl", command={"update": {"log": ["a"]}})
    as_pairs = client.runs.wait(asked, "hitl", command={"update": [["log", ["b"]], ["value", "w"]]})

    assert (as_object["value"], as_object["log"]) == ("v", ["prepare", "a"])
    assert (as_pairs["value"], as_pairs["log"]) == ("w", ["prepare", "a", "b"])
    assert as_pairs["__interrupt__"][0]["value"]["value"] == "w"


def test_command__resume_and_update(client: Any, asked: str) -> None:
    values = client.runs.wait(asked, "hitl", command={"resume": "yes", "update": {"value": "new"}})

    assert (values["answer"], values["value"]) == ("yes", "new")


def test_command__goto(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "compiled", input={"said": []})

    again = client.runs.wait(thread_id, "compiled", command={"goto": "say"})
    sent = client.runs.wait(
        thread_id, "compiled", command={"goto": {"node": "say", "input": {"said": []}}}
    )

    assert again == {"said": ["compiled"] * 2}
    assert sent == {"said": ["compiled"] * 3}


@pytest.mark.parametrize("command", [{}, {"update": {}}, {"goto": []}])
def test_command__that_says_nothing_runs_on(client: Any, asked: str, command: Any) -> None:
    values = client.runs.wait(asked, "hitl", command=command)

    assert values["__interrupt__"][0]["value"]["question"] == "approve?"
    assert client.threads.get(asked)["status"] == "interrupted"


def test_interrupt_before(client: Any, thread_id: str) -> None:
    stopped = client.runs.wait(
        thread_id, "compiled", input={"said": ["hi"]}, interrupt_before=["say"]
    )
    thread = client.threads.get(thread_id)
    values = client.runs.wait(thread_id, "compiled")

    assert stopped == {"said": ["hi"]}
    assert (thread["status"], thread["interrupts"]) == ("interrupted", {})
    assert values == {"said": ["hi", "compiled"]}


def test_interrupt_after(client: Any, thread_id: str) -> None:
    parts = list(
        client.runs.stream(
            thread_id,
            "hitl",
            input={"value": "v"},
            interrupt_after="*",
            stream_mode=["updates", "values"],
        )
    )

    assert [part.event for part in parts] == ["metadata", "values", "updates", "values", "updates"]
    assert parts[-1].data == {"__interrupt__": []}
    assert client.threads.get_state(thread_id)["next"] == ["ask"]


def test_resume__where_nothing_was_asked(client: Any, thread_id: str) -> None:
    """The graph starts, and its question is asked: an answer that was there before is none."""
    values = client.runs.wait(thread_id, "hitl", command={"resume": "yes"})

    assert [question["value"]["question"] for question in values["__interrupt__"]] == ["approve?"]
    assert "answer" not in values


def refused(client: Any, thread_id: str, resume: Any, assistant: str = "hitl") -> str:
    """Answer strictly. Returns why that was refused."""
    before, head = client.threads.get(thread_id), client.threads.get_state(thread_id)

    answer = client.runs.wait(
        thread_id, assistant, command={"resume": resume}, strict_resume=True, raise_error=False
    )

    after = client.threads.get(thread_id)
    changing = ("updated_at", "state_updated_at")
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert client.threads.get_state(thread_id) == head
    assert client.runs.list(thread_id)[0]["status"] == "error"
    assert answer["__error__"]["error"] == "UnknownInterruptError"
    message: str = answer["__error__"]["message"]
    return message


def test_strict_resume__of_what_does_not_wait(client: Any, asked: str) -> None:
    message = refused(client, asked, {"0" * 32: "wrong"})

    assert "0" * 32 in message


def test_strict_resume__of_what_waits(client: Any, asked: str) -> None:
    [question] = client.threads.get_state(asked)["interrupts"]

    values = client.runs.wait(
        asked, "hitl", command={"resume": {question["id"]: "yes"}}, strict_resume=True
    )

    assert values["answer"] == "yes"


def test_strict_resume__in_a_subgraph(client: Any, thread_id: str) -> None:
    asked = client.runs.wait(thread_id, "nested_question", input={"value": "v"})
    resume = {asked["__interrupt__"][0]["id"]: "yes"}

    values = client.runs.wait(
        thread_id, "nested_question", command={"resume": resume}, strict_resume=True
    )

    assert values["answer"] == "yes"


def test_strict_resume__twice(client: Any, asked: str) -> None:
    """Two people answer at once: the second is told."""
    [question] = client.threads.get_state(asked)["interrupts"]
    client.runs.wait(asked, "hitl", command={"resume": {question["id"]: "yes"}})

    refused(client, asked, {question["id"]: "no"})

    assert client.threads.get(asked)["values"]["answer"] == "yes"
