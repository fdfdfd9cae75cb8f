"""Commands of protocol v2. No worker is there: tests write what a worker would."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from trellis.api import commands
from trellis.domain.ids import default_assistant_id, new_id

QUESTION = "250febc8307808032d31a582a664f180"
OTHER = "4bf1955f78fc4de7be0878fcd77305cc"
START = {"assistant_id": "echo", "input": {"value": "hi"}}

Sql = Callable[..., Any]
Send = Callable[..., Any]


@pytest.fixture
def send(client: FlaskClient, thread_id: str) -> Send:
    """Send a command to a thread, and return what it is answered."""

    def send(method: str, params: Any = None, *, to: str = thread_id, n: int = 7) -> Any:
        sent = {"id": n, "method": method, "params": params or {}}
        response = client.post(f"/threads/{to}/commands", json=sent)
        assert response.status_code == 200, response.data
        answer = response.get_json()
        assert answer["id"] == n
        return answer

    return send


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


def refused(answer: Any) -> tuple[str, str]:
    assert answer["type"] == "error"
    return answer["error"], answer["message"]


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


def test_params_of_another_shape(client: FlaskClient, thread_id: str) -> None:
    sent = {"id": 1, "method": "state.get", "params": [1]}

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
