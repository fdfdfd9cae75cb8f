"""Who may send which command of protocol v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from flask import Flask

from integration.api.access.callers import RUN, Caller, Callers, only_owners
from integration.api.access.test_handlers import seen
from trellis.api import commands

__all__ = ["seen"]

NEW = "01a202c0-3a08-7372-9a72-007cfabe77d4"
OTHER = "01a202c0-3a08-7372-9a72-007cfabe77d5"
NOT_THERE = "unknown_error", "404: Thread or assistant not found."
FORBIDDEN = "permission_denied", "403: Forbidden"


def send(caller: Caller, thread_id: str, method: str, **params: Any) -> Any:
    body = {"id": 1, "method": method, "params": params}
    return caller.post(f"/threads/{thread_id}/commands", body)


def refused(answer: Any) -> tuple[str, str]:
    assert answer["id"] == 1
    return answer["error"], answer["message"]


def test_run_start__on_somebody_elses_thread(people: Callers, ids: Mapping[str, str]) -> None:
    thread_id = ids["thread_id"]
    before = people["alice"]("GET", f"/threads/{thread_id}/runs").data

    assert refused(send(people["bob"], thread_id, "run.start", **RUN)) == NOT_THERE
    assert people["alice"]("GET", f"/threads/{thread_id}/runs").data == before


def test_run_start__with_somebody_elses_assistant(people: Callers, ids: Mapping[str, str]) -> None:
    run = {**RUN, "assistant_id": ids["assistant_id"]}

    assert refused(send(people["bob"], NEW, "run.start", **run)) == NOT_THERE


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("input.respond", {"interrupt_id": "i", "response": 1}),
        ("input.inject", {"message": {"role": "user", "content": "x"}}),
        ("state.fork", {"checkpoint_id": "1"}),
        ("state.get", {}),
        ("state.listCheckpoints", {}),
        ("agent.getTree", {}),
    ],
)
def test_others__on_somebody_elses_thread(
    people: Callers, ids: Mapping[str, str], method: str, params: Any
) -> None:
    """They are answered as they are for a thread that is not there."""
    answer = send(people["bob"], ids["thread_id"], method, **params)
    missing = send(people["bob"], NEW, method, **params)

    assert answer["type"] == "error"
    assert str(missing).replace(NEW, ids["thread_id"]) == str(answer)


@only_owners
def test_handlers__see_and_change_what_is_asked_for(
    people: Callers, seen: list[tuple[str, str, dict[str, Any]]]
) -> None:
    send(people["alice"], NEW, "run.start", **RUN, metadata={"a": 1}, multitaskStrategy="reject")

    [started] = seen
    assert started[:2] == ("threads", "create_run")
    assert str(started[2]["thread_id"]) == NEW
    assert started[2]["multitask_strategy"] == "reject"
    assert started[2]["kwargs"] == {"input": {"value": "x"}}
    [run] = people["alice"]("GET", f"/threads/{NEW}/runs").get_json()
    assert (run["metadata"]["a"], run["metadata"]["owner"]) == (1, "alice")
    assert run["multitask_strategy"] == "reject"
    assert run["kwargs"]["config"]["configurable"]["langgraph_auth_user_id"] == "alice"
    thread = people["alice"]("GET", f"/threads/{NEW}").get_json()
    assert thread["metadata"]["owner"] == "alice"


@only_owners
def test_handlers__forbid(people: Callers) -> None:
    assert refused(send(people["denied"], NEW, "run.start", **RUN)) == FORBIDDEN
    assert refused(send(people["denied"], NEW, "state.get")) == FORBIDDEN
    assert refused(send(people["noassistants"], OTHER, "run.start", **RUN)) == FORBIDDEN


@only_owners
@pytest.mark.parametrize(("who", "status"), [("boom", 401), ("teapot", 418)])
def test_nobody_knows_who_asks(app: Flask, people: Callers, who: str, status: int) -> None:
    path, body = f"/threads/{NEW}/commands", {"id": 1, "method": "run.start", "params": RUN}

    refusal = people[who]("POST", path, body)

    assert refusal.status_code == status
    assert list(refusal.get_json()) == ["detail"]
    frame = people[who].client.post(
        path,
        json=body,
        headers=dict(people[who].headers),
        environ_overrides={commands.FRAME: True},
    )
    assert frame.status_code == 200
    assert frame.get_json()["message"].startswith(f"{status}: ")
