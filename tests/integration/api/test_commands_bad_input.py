"""Every parameter of every command of protocol v2 with what it does not take: answered in the protocol, never a 500."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
from flask.testing import FlaskClient

from integration.api.protocol import START, Send, Sql, send
from trellis.domain.ids import new_id

__all__ = ["send"]

CODES = {
    "invalid_argument",
    "unknown_error",
    "no_such_run",
    "no_such_namespace",
    "no_such_interrupt",
    "no_such_checkpoint",
    "not_supported",
}
DEEP: Any = reduce(lambda inner, _: [inner], range(80), [])
ODD = (
    *(None, True, -1, 0, 2**53, 2**63, 1e308, 0.5),
    *("", "x" * 3000, "\u2028\ud7ff", "../..", "a|b:c", "1ef00000-0000-6000-8000-000000000000"),
    *([], {}, [None], ["a", 1], [[]], [{}], {"": {}}, {"configurable": 1}, DEEP),
)
MESSAGE = {"role": "user", "content": "hi"}
#: What each command takes, with something that it does take.
TAKES: dict[str, dict[str, Any]] = {
    "run.start": {
        **START,
        "config": {},
        "metadata": {},
        "langsmith_tracer": None,
        "multitask_strategy": "enqueue",
        "multitaskStrategy": "enqueue",
    },
    "input.respond": {
        "namespace": [],
        "interrupt_id": "i",
        "response": 1,
        "responses": [],
        "update": {},
        "goto": "echo",
        "config": {},
        "metadata": {},
        "strict_resume": True,
    },
    "input.inject": {"message": MESSAGE, "namespace": []},
    "state.get": {"namespace": [], "keys": ["value"]},
    "state.listCheckpoints": {"namespace": [], "limit": 3, "before": None},
    "state.fork": {"checkpoint_id": "", "input": {}, "config": {}},
    "agent.getTree": {"run_id": None},
    "subscription.subscribe": {"channels": ["values"]},
    "subscription.unsubscribe": {"subscription_id": ""},
    "subscription.reconnect": {"run_id": "", "channels": ["values"]},
}


@pytest.mark.parametrize("method", list(TAKES))
def test_commands__odd_parameters(
    send: Send, sql: Sql, ran: Callable[[str, str], str], method: str
) -> None:
    thread_id = ran("echo", "hi")

    for name in TAKES[method]:
        for value in ODD:
            before = sql("SELECT count(*) FROM run")
            answer = send(method, {**TAKES[method], name: value}, to=thread_id)
            after = sql("SELECT count(*) FROM run")

            if answer["type"] == "error":
                assert answer["error"] in CODES, (name, value, answer)
                assert answer["message"], (name, value)
                assert not answer["message"].startswith("5"), (name, value, answer)
                assert before == after, (name, value, answer)


@pytest.mark.parametrize("method", list(TAKES))
def test_commands__odd_threads(client: FlaskClient, method: str) -> None:
    sent = {"id": 1, "method": method, "params": TAKES[method]}

    for thread_id in (new_id(), "x", "%00", "%F0%9F%8E%82", "x" * 2000):
        response = client.post(f"/threads/{thread_id}/commands", json=sent)

        assert response.status_code in (200, 400, 422), (thread_id, response.data)
        told = response.get_json()
        assert told.get("type") in ("success", "error") or told["detail"]


@pytest.mark.parametrize("name", ["channels", "namespaces", "depth", "since"])
def test_events__odd_fields(client: FlaskClient, thread_id: str, name: str) -> None:
    for value in ODD:
        body = {"channels": ["values"], name: value}
        response = client.post(f"/threads/{thread_id}/stream/events", json=body, buffered=False)

        assert response.status_code in (200, 400), (value, response.data)
        if response.status_code == 400:
            assert response.get_json()["detail"], value
        response.close()
