"""Commands of protocol v2. No worker is there: tests write what a worker would."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from integration.api.protocol import START, Send, Sql, refused, send
from trellis.api import commands
from trellis.domain.ids import default_assistant_id, new_id

QUESTION = "250febc8307808032d31a582a664f180"
OTHER = "4bf1955f78fc4de7be0878fcd77305cc"

__all__ = ["send"]


@pytest.fixture
def runs(client: FlaskClient, thread_id: str) -> Callable[[], Any]:
    """The thread's runs, newest first."""
    return lambda: client.get(f"/threads/{thread_id}/runs").get_json()


@pytest.fixture
def wait_with(sql: Sql, send: Send, thread_id: str) -> Callable[..., None]:
    """End the thread's runs as a worker would whose graph asks questions."""

    def wait_with(*questions: str) -> None:
        send("run.start", START)
        asked = {new_id(): [{"id": each, "value": "?"}] for each in questions}
        sql("UPDATE run SET status = 'success', ended_at = now() WHERE thread_id = :t", t=thread_id)
        sql(
            "UPDATE thread SET status = 'interrupted', interrupts = CAST(:asked AS jsonb) "
            "WHERE thread_id = :t",
            t=thread_id,
            asked=json.dumps(asked),
        )

    return wait_with


# run.start


def test_run_start(send: Send, runs: Callable[[], Any]) -> None:
    params = {
        **START,
        "metadata": {"k": 1},
        "config": {"tags": ["t"], "recursion_limit": 9, "configurable": {"model": "m"}},
    }

    answer = send("run.start", params)

    [run] = runs()
    assert answer == {
        "type": "success",
        "id": 7,
        "result": {"run_id": run["run_id"]},
        "meta": {"applied_through_seq": 0},
    }
    assert run["metadata"]["k"] == 1
    kwargs = run["kwargs"]
    assert kwargs["input"] == {"value": "hi"}
    assert kwargs["config"]["tags"] == ["t"]
    assert kwargs["config"]["recursion_limit"] == 9
    assert kwargs["config"]["configurable"]["model"] == "m"
    assert kwargs["config"]["configurable"]["__event_streaming_v2"] is True
    assert (kwargs["resumable"], kwargs["subgraphs"]) == (True, True)
    assert kwargs["stream_mode"] == [
        "values",
        "updates",
        "messages",
        "tools",
        "lifecycle",
        "custom",
        "tasks",
        "checkpoints",
    ]


def test_run_start__makes_the_thread(send: Send, client: FlaskClient) -> None:
    thread_id = new_id()

    assert send("run.start", START, to=thread_id)["type"] == "success"
    assert client.get(f"/threads/{thread_id}").get_json()["metadata"]["graph_id"] == "echo"


@pytest.mark.parametrize("spelling", ["multitaskStrategy", "multitask_strategy"])
def test_run_start__strategies_count_at_once(
    send: Send, runs: Callable[[], Any], spelling: str
) -> None:
    send("run.start", START)

    assert refused(send("run.start", {**START, spelling: "reject"}))[1].startswith("409: ")
    assert len(runs()) == 1

    send("run.start", {**START, spelling: "interrupt"})
    assert [run["status"] for run in runs()] == ["pending", "interrupted"]
    assert runs()[0]["multitask_strategy"] == "interrupt"


def test_run_start__goes_back_to_a_checkpoint(
    send: Send, runs: Callable[[], Any], wait_with: Callable[..., None]
) -> None:
    """On a thread that waits, too: what goes back leaves the question behind."""
    wait_with(QUESTION)

    send("run.start", {**START, "config": {"configurable": {"checkpoint_id": "c1"}}})

    kwargs = runs()[0]["kwargs"]
    assert kwargs["config"]["configurable"]["checkpoint_id"] == "c1"
    assert (kwargs["command"], kwargs["input"]) == (None, {"value": "hi"})


def test_run_start__answers_what_waits(
    send: Send, runs: Callable[[], Any], wait_with: Callable[..., None]
) -> None:
    wait_with(QUESTION)

    send("run.start", {**START, "input": {"yes": 1}})

    kwargs = runs()[0]["kwargs"]
    assert kwargs["command"] == {"resume": {QUESTION: {"yes": 1}}}
    assert kwargs["input"] is None


def test_run_start__answers_many_questions_as_it_says(
    send: Send, runs: Callable[[], Any], wait_with: Callable[..., None]
) -> None:
    wait_with(QUESTION, OTHER)

    send("run.start", {**START, "input": {QUESTION: 1, OTHER: 2}})

    assert runs()[0]["kwargs"]["command"] == {"resume": {QUESTION: 1, OTHER: 2}}


def test_run_start__is_no_answer_while_another_is_on_its_way(
    send: Send, runs: Callable[[], Any], wait_with: Callable[..., None]
) -> None:
    wait_with(QUESTION)
    send("run.start", {**START, "input": "first"})

    send("run.start", {**START, "input": {"value": "second"}})

    assert runs()[0]["kwargs"]["input"] == {"value": "second"}
    assert runs()[0]["kwargs"]["command"] is None


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        ({}, "invalid_argument", "run.start requires an assistant_id."),
        ({"assistant_id": 1}, "invalid_argument", "run.start requires an assistant_id."),
        ({**START, "assistant_id": "nope"}, "unknown_error", "422: Invalid assistant: 'nope'"),
        ({**START, "assistant_id": new_id()}, "unknown_error", "404: Thread or assistant not"),
        ({**START, "config": []}, "invalid_argument", "Expected `object | null`"),
        ({**START, "multitaskStrategy": "x"}, "invalid_argument", "Invalid enum value 'x'"),
        ({**START, "langsmith_tracer": {}}, "not_supported", "langsmith_tracer is not"),
    ],
)
def test_run_start__refused(
    send: Send, runs: Callable[[], Any], params: Any, code: str, message: str
) -> None:
    told = refused(send("run.start", params))

    assert told[0] == code
    assert told[1].startswith(message)
    assert runs() == []


def test_run_start__on_no_thread(send: Send) -> None:
    told = refused(send("run.start", START, to="xx"))

    assert told == ("unknown_error", "422: Invalid thread ID: must be a UUID")


def test_run_start__once(client: FlaskClient, thread_id: str, runs: Callable[[], Any]) -> None:
    sent = {"id": 1, "method": "run.start", "params": START}
    header = {"Idempotency-Key": "k"}
    path = f"/threads/{thread_id}/commands"

    first = client.post(path, json=sent, headers=header)
    second = client.post(path, json=sent, headers=header)

    assert second.get_json() == first.get_json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(runs()) == 1


def test_a_bad_key(client: FlaskClient, thread_id: str) -> None:
    sent = {"id": 1, "method": "agent.getTree"}

    response = client.post(
        f"/threads/{thread_id}/commands", json=sent, headers={"Idempotency-Key": "no key"}
    )

    assert response.status_code == 422
    assert "Idempotency-Key" in response.get_json()["detail"]


# input


def test_input_respond(send: Send, runs: Callable[[], Any], wait_with: Callable[..., None]) -> None:
    wait_with(QUESTION)
    params = {
        "namespace": [],
        "interrupt_id": QUESTION,
        "response": "approved",
        "update": {"log": ["u"]},
        "goto": "ask",
        "metadata": {"m": 1},
        "config": {"tags": ["t"]},
        "strict_resume": True,
    }

    assert send("input.respond", params)["result"] == {}

    run = runs()[0]
    assert run["kwargs"]["command"] == {
        "update": {"log": ["u"]},
        "resume": {QUESTION: "approved"},
        "goto": "ask",
    }
    assert run["assistant_id"] == default_assistant_id("echo")
    assert run["kwargs"]["strict_resume"] is True
    assert run["kwargs"]["config"]["tags"] == ["t"]
    assert run["metadata"]["m"] == 1


def test_input_respond__null_is_an_answer(
    send: Send, runs: Callable[[], Any], wait_with: Callable[..., None]
) -> None:
    wait_with(QUESTION)

    send("input.respond", {"interrupt_id": QUESTION, "response": None})

    assert runs()[0]["kwargs"]["command"] == {"resume": {QUESTION: None}}


def test_input_respond__many(
    send: Send, runs: Callable[[], Any], wait_with: Callable[..., None]
) -> None:
    wait_with(QUESTION, OTHER)
    answers = [{"interrupt_id": QUESTION, "response": 1}, {"interrupt_id": OTHER, "response": 2}]

    send("input.respond", {"responses": [{"namespace": [], **each} for each in answers]})

    assert runs()[0]["kwargs"]["command"] == {"resume": {QUESTION: 1, OTHER: 2}}


def test_input_respond__to_what_does_not_wait(
    send: Send, runs: Callable[[], Any], wait_with: Callable[..., None]
) -> None:
    wait_with(QUESTION)
    unknown = {"interrupt_id": OTHER, "response": 1}
    known = {"interrupt_id": QUESTION, "response": 1}
    gone = "no_such_interrupt", f"Unknown or already-consumed interrupt: {OTHER}"

    assert refused(send("input.respond", unknown)) == gone
    assert refused(send("input.respond", {"responses": [known, unknown]})) == gone
    assert len(runs()) == 1
    send("input.respond", known)
    assert refused(send("input.respond", known))[0] == "no_such_interrupt"
    assert len(runs()) == 2


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"interrupt_id": QUESTION},
        {"response": 1},
        {"responses": []},
        {"responses": [{"interrupt_id": 1, "response": 1}]},
        {"responses": [{"interrupt_id": QUESTION, "response": 1}], "interrupt_id": QUESTION},
        {"interrupt_id": QUESTION, "response": 1, "namespace": "x"},
        {"interrupt_id": QUESTION, "response": 1, "goto": 1},
    ],
)
def test_input_respond__malformed(
    send: Send, runs: Callable[[], Any], wait_with: Callable[..., None], params: Any
) -> None:
    wait_with(QUESTION)

    assert refused(send("input.respond", params))[0] == "invalid_argument"
    assert len(runs()) == 1


def test_input_inject(send: Send, runs: Callable[[], Any]) -> None:
    """It is the input of the run after the one that is under way."""
    send("run.start", START)
    message = {"role": "user", "content": "wait", "name": "ann"}

    assert send("input.inject", {"namespace": [], "message": message})["result"] == {}

    run = runs()[0]
    assert run["kwargs"]["input"] == {"messages": [message]}
    assert run["multitask_strategy"] == "enqueue"
    assert run["assistant_id"] == default_assistant_id("echo")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "invalid_argument"),
        ({"message": {"role": "ai", "content": "x"}}, "invalid_argument"),
        ({"message": {"role": "user"}}, "invalid_argument"),
        ({"namespace": ["a"], "message": {"role": "user", "content": "x"}}, "not_supported"),
    ],
)
def test_input_inject__refused(send: Send, params: Any, code: str) -> None:
    assert refused(send("input.inject", params))[0] == code


def test_input_inject__where_nothing_has_run(send: Send) -> None:
    params = {"message": {"role": "user", "content": "x"}}

    assert refused(send("input.inject", params))[1].startswith("400: Nothing has run on this")
    assert refused(send("input.inject", params, to=new_id()))[1].startswith("404: Thread with ID")


# The envelope


@pytest.mark.parametrize(
    ("sent", "given"),
    [
        ({"method": "run.start"}, None),
        ({"id": "x", "method": "run.start"}, "x"),
        ({"id": -1, "method": "run.start"}, -1),
        ({"id": True, "method": "run.start"}, True),
        ({"id": 1}, 1),
        ({"id": 1, "method": 2}, 1),
        ([], None),
        ("x", None),
    ],
)
def test_envelope__malformed(client: FlaskClient, thread_id: str, sent: Any, given: Any) -> None:
    response = client.post(f"/threads/{thread_id}/commands", json=sent)

    assert response.status_code == 400
    assert response.get_json() == {
        "type": "error",
        "id": given,
        "error": "invalid_argument",
        "message": "Protocol commands must include an integer id and string method.",
    }


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"{bad", "Invalid JSON body"),
        (b"", "Invalid JSON body"),
        (b'{"id":1,"method":"a\\u0000"}', "Invalid JSON body: it contains the character U+0000"),
        (b'{"id":1,"method":"\\ud800"}', "Invalid JSON body: a lone surrogate is no character"),
        (b'{"id":1,"params":' + b"[" * 200 + b"]" * 200 + b"}", "Invalid JSON body: nested"),
    ],
)
def test_envelope__no_json(client: FlaskClient, thread_id: str, data: bytes, detail: str) -> None:
    response = client.post(f"/threads/{thread_id}/commands", data=data)

    assert response.status_code == 400
    assert response.get_json()["detail"].startswith(detail)


@pytest.mark.parametrize("method", ["bogus", "run.cancel", ""])
def test_unknown_command(send: Send, method: str) -> None:
    told = refused(send(method))

    assert told == ("unknown_command", f"Unknown protocol command: {method}")


@pytest.mark.parametrize("params", [[], "", 0, False])
def test_params_of_another_shape(client: FlaskClient, thread_id: str, params: Any) -> None:
    sent = {"id": 1, "method": "state.get", "params": params}

    answer = client.post(f"/threads/{thread_id}/commands", json=sent).get_json()

    assert refused(answer) == ("invalid_argument", "params must be an object.")


@pytest.mark.parametrize(
    "method",
    ["subscription.subscribe", "subscription.unsubscribe", "subscription.reconnect"],
)
def test_subscriptions_belong_to_a_socket(send: Send, method: str) -> None:
    code, message = refused(send(method, {"channels": ["values"]}))

    assert code == "not_supported"
    assert "/stream/events" in message


# As frames of a WebSocket


@pytest.fixture
def frame(app: Flask, thread_id: str) -> Callable[[bytes], TestResponse]:
    def frame(data: bytes) -> TestResponse:
        environ = {commands.FRAME: True}
        path = f"/threads/{thread_id}/commands"
        return app.test_client().post(path, data=data, environ_overrides=environ)

    return frame


@pytest.mark.parametrize(
    ("data", "given", "code", "message"),
    [
        (b"{bad", None, "invalid_argument", "Protocol commands must be valid JSON."),
        (b'{"channels":[]}', None, "invalid_argument", "Protocol commands must include"),
        (b'{"id":3,"method":"x"}', 3, "unknown_command", "Unknown protocol command: x"),
    ],
)
def test_frame__is_always_answered_in_the_protocol(
    frame: Callable[[bytes], TestResponse], data: bytes, given: Any, code: str, message: str
) -> None:
    response = frame(data)

    answer = response.get_json()
    assert response.status_code == 200
    assert answer["id"] == given
    assert refused(answer)[0] == code
    assert refused(answer)[1].startswith(message)


def test_frame(frame: Callable[[bytes], TestResponse]) -> None:
    response = frame(json.dumps({"id": 0, "method": "run.start", "params": START}).encode())

    assert response.get_json()["result"]["run_id"]
