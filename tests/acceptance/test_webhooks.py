"""Webhooks of real runs, and creates that are sent twice, on a server that may reach this machine."""

import base64
import hmac
import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langgraph_sdk import get_sync_client

from acceptance.system import GRAPHS, System, running, wait_for
from integration.receiver import Received, Receiver, receiving

SECRET = b"a secret of thirty-two bytes, ok"


@pytest.fixture(scope="module")
def system(
    new_system: Callable[..., System], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    manifest = json.loads(GRAPHS.read_text())
    graphs = {
        name: str(GRAPHS.parent / manifest["graphs"][name]) for name in ("steps", "failing", "hitl")
    }
    webhooks = {
        "url": {"disable_loopback": False},
        "headers": {"Authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}"},
    }
    config = tmp_path_factory.mktemp("project") / "langgraph.json"
    config.write_text(
        json.dumps({"graphs": graphs, "webhooks": webhooks, "dependencies": [str(GRAPHS.parent)]})
    )
    env = {
        "TRELLIS_CONFIG": str(config),
        "LG_WEBHOOK_TOKEN": "t0ken",
        "TRELLIS_WEBHOOK_SECRET": f"whsec_{base64.b64encode(SECRET).decode()}",
    }
    with running(new_system(env=env)) as system:
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def received(receiver: Receiver, *, times: int = 1) -> Received:
    wait_for(lambda: len(receiver.got) >= times, what="the webhook")
    return receiver.got[-1]


def run(system: System, receiver: Receiver, graph: str, **fields: Any) -> tuple[str, Any]:
    """A run that has this webhook, and what a waiting client was told."""
    thread_id = system.new_thread()
    body = {"assistant_id": graph, "input": {}, "webhook": receiver.url, **fields}
    return thread_id, system.post(f"/threads/{thread_id}/runs/wait", body)


def test_success(system: System, receiver: Receiver) -> None:
    thread_id, values = run(system, receiver, "steps", metadata={"m": 1})

    told = received(receiver)

    [shown] = system.get(f"/threads/{thread_id}/runs")
    extra = {"run_started_at", "run_ended_at", "webhook_sent_at", "values"}
    assert {**told.body} == {**shown, **{name: told.body[name] for name in extra}}
    assert told.body["values"] == values == {"log": ["one", "two", "three"]}
    assert told.headers["webhook-id"] == shown["run_id"]
    assert told.headers["authorization"] == "Bearer t0ken"


def test_signature_and_log(system: System, receiver: Receiver) -> None:
    run(system, receiver, "steps")

    told = received(receiver)

    run_id = told.body["run_id"]
    content = f"{run_id}.{told.headers['webhook-timestamp']}.".encode() + told.raw
    expected = base64.b64encode(hmac.new(SECRET, content, "sha256").digest()).decode()
    assert told.headers["webhook-signature"] == f"v1,{expected}"
    path = f"/runs/{run_id}/webhook"
    wait_for(lambda: system.get(path)["status"] == "delivered", what="the log")
    [attempt] = system.get(path)["attempts"]
    assert attempt == {"attempt": 1, "at": told.body["webhook_sent_at"], "error": None}


def test_error(system: System, receiver: Receiver) -> None:
    _, values = run(system, receiver, "failing")

    told = received(receiver).body

    assert told["status"] == "error"
    assert told["error"] == values["__error__"] == {"error": "ValueError", "message": "boom"}
    assert told["values"] == {"log": ["one"]}


def test_a_question_is_a_success(system: System, receiver: Receiver) -> None:
    run(system, receiver, "hitl", input={"value": "v"})

    told = received(receiver).body

    assert (told["status"], told["values"]) == ("success", {"value": "v", "log": ["prepare"]})
    assert "error" not in told


def test_stateless(system: System, receiver: Receiver) -> None:
    body = {"assistant_id": "steps", "input": {}, "webhook": receiver.url}
    system.post("/runs/wait", body)

    assert received(receiver).body["values"] is None


def test_values_are_those_of_the_run(system: System, receiver: Receiver) -> None:
    """A second run has gone on with the thread before the first one's webhook is taken."""
    receiver.statuses = deque([500])
    thread_id, first = run(system, receiver, "steps")
    system.post(f"/threads/{thread_id}/runs/wait", {"assistant_id": "steps", "input": {}})

    assert received(receiver, times=2).body["values"] == first


def test_receiver_fails_twice(system: System, receiver: Receiver) -> None:
    receiver.statuses = deque([500, 500])
    run(system, receiver, "steps")

    received(receiver, times=3)

    assert len({each.headers["webhook-id"] for each in receiver.got}) == 1
    query = "SELECT attempt FROM webhook_outbox WHERE url = %s AND delivered_at IS NOT NULL"
    assert wait_for(lambda: system.rows(query, receiver.url), what="the end") == [(3,)]


def test_worker_is_killed_while_it_delivers(system: System, receiver: Receiver) -> None:
    """What had been taken is due again, and another worker has it."""
    with receiving() as slow:
        slow.statuses = deque([503])
        run(system, slow, "steps")
        received(slow)
        for process in system.processes:
            if process.name.startswith("worker"):
                process.kill()
        system.start_worker()

        received(slow, times=2)

    assert slow.got[0].body["run_id"] == slow.got[1].body["run_id"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("/hook", "Invalid webhook hostname ''"),
        ("ftp://127.0.0.1/", "Webhook host blocked: scheme 'ftp' not allowed"),
        ("http://169.254.169.254/", "Webhook host blocked: blocked IP range"),
        ("http://nobody.invalid/", "Webhook host blocked: DNS resolution failed"),
    ],
)
@pytest.mark.parametrize("path", ["/runs", "/runs/wait", "/runs/stream"])
def test_refused(system: System, path: str, url: str, says: str) -> None:
    answer = system.request("POST", path, {"assistant_id": "steps", "webhook": url})

    assert (answer.status, answer.json()) == (422, {"detail": says})


def test_loopback_is_refused_by_default(server: System) -> None:
    body = {"assistant_id": "steps", "webhook": "http://127.0.0.1:9/"}

    answer = server.request("POST", "/runs", body)

    assert answer.json() == {"detail": "Webhook host blocked: loopback IP range"}


def test_idempotency_key__with_the_sdk(system: System) -> None:
    headers = {"Idempotency-Key": "sdk-1"}
    with get_sync_client(url=system.url) as client:
        thread = client.threads.create()["thread_id"]
        first = client.runs.wait(thread, "steps", input={}, headers=headers)
        again = client.runs.wait(thread, "steps", input={}, headers=headers)
        streamed = [
            [
                part.event
                for part in client.runs.stream(
                    thread, "steps", input={}, headers={"Idempotency-Key": "sdk-2"}
                )
            ]
            for _ in range(2)
        ]

        assert first == again == {"log": ["one", "two", "three"]}
        assert streamed[0] == streamed[1] == ["metadata", *["values"] * 3]
        assert len(client.runs.list(thread)) == 2
