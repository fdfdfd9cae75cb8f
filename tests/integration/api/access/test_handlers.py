"""What the user's handlers see and do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from integration.api.access.callers import AUTH_PROJECT, CRON, RUN, Callers, only_owners
from trellis.api import access
from trellis.runtime import Runtime


@pytest.fixture
def seen(rt: Runtime) -> list[tuple[str, str, dict[str, Any]]]:
    """What the project's handlers were told."""
    file = str(AUTH_PROJECT.with_name("auth.py"))
    modules = list(sys.modules.values())
    module = next(each for each in modules if getattr(each, "__file__", None) == file)
    module.seen.clear()
    found: list[tuple[str, str, dict[str, Any]]] = module.seen
    return found


@only_owners
def test_authenticate__refusals(people: Callers, app: Flask) -> None:
    nobody = app.test_client().post("/threads", json={})
    assert (nobody.status_code, nobody.get_json()) == (401, {"detail": "no token"})
    assert nobody.headers["WWW-Authenticate"] == "Bearer"

    boom = people["boom"]("POST", "/threads", {})
    assert (boom.status_code, boom.get_json()) == (401, {"detail": "Unauthorized"})

    teapot = people["teapot"]("POST", "/threads", {})
    assert (teapot.status_code, teapot.get_json()) == (418, {"detail": "no coffee"})


@only_owners
def test_handlers__false_forbids(people: Callers) -> None:
    denied = people["denied"]("POST", "/threads", {})

    assert (denied.status_code, denied.get_json()) == (403, {"detail": "Forbidden"})


@only_owners
@pytest.mark.parametrize("name", ["nul", "half", "keyless", "list"])
def test_handlers__what_cannot_be_stored(
    people: Callers, rows: Callable[[], Any], name: str
) -> None:
    """The handler has failed: nothing is done, and it is no 500."""
    thread_id = people["alice"].post("/threads", {})["thread_id"]
    before = rows()

    for path, body in [
        ("/threads", {}),
        ("/threads/search", {}),
        (f"/threads/{thread_id}/copy", None),
        (f"/threads/{thread_id}/runs", RUN),
        ("/runs", RUN),
        ("/runs/crons", CRON),
        ("/assistants", {"graph_id": "echo"}),
    ]:
        response = people[name]("POST", path, body)
        assert response.status_code in (403, 422), (path, response.data)

    assert rows() == before


@only_owners
def test_handlers__the_most_specific_is_asked(people: Callers) -> None:
    assert people["noassistants"]("POST", "/runs", RUN).status_code == 403
    assert people["denied"]("POST", "/threads/search", {}).status_code == 403


@only_owners
def test_handlers__mutations_are_stored(people: Callers) -> None:
    thread = people["alice"].post("/threads", {"metadata": {"a": 1, "owner": "bob"}})
    assert thread["metadata"] == {"a": 1, "owner": "alice"}
    assert people["plain"].post("/threads", {})["metadata"] == {"owner": "justastring"}

    patched = people["alice"](
        "PATCH", f"/threads/{thread['thread_id']}", {"metadata": {"owner": "bob", "b": 2}}
    )
    assert patched.get_json()["metadata"] == {"a": 1, "b": 2, "owner": "alice"}


@only_owners
def test_handlers__see_what_is_asked_for(
    people: Callers, seen: list[tuple[str, str, dict[str, Any]]]
) -> None:
    thread_id = people["alice"].post("/threads", {"metadata": {"a": 1}})["thread_id"]
    run = people["alice"].post(f"/threads/{thread_id}/runs", {**RUN, "metadata": {"b": 2}})

    created, started = seen[0], seen[1]
    assert created[:2] == ("threads", "create")
    assert created[2]["metadata"] == {"a": 1, "owner": "alice"}
    assert str(created[2]["thread_id"]) == thread_id
    assert started[:2] == ("threads", "create_run")
    assert {str(started[2][key]) for key in ("thread_id", "assistant_id")} == {
        thread_id,
        run["assistant_id"],
    }
    assert started[2]["kwargs"] == {"input": {"value": "x"}}
    assert run["metadata"]["b"] == 2
    assert run["metadata"]["owner"] == "alice"


@only_owners
def test_run__knows_its_user_and_shows_no_secret(people: Callers, sql: Callable[..., Any]) -> None:
    run = people["alice"].post("/runs", RUN)

    shown = run["kwargs"]["config"]["configurable"]
    assert shown["langgraph_auth_user_id"] == "alice"
    assert shown["langgraph_auth_permissions"] == ["p1"]
    assert shown["langgraph_auth_user"] == {
        "identity": "alice",
        "display_name": "alice",
        "is_authenticated": True,
        "permissions": ["p1"],
    }
    stored = sql(
        "SELECT kwargs #>> '{config,configurable,langgraph_auth_user,secret}' FROM run "
        "WHERE run_id = CAST(:run AS uuid)",
        run=run["run_id"],
    )
    assert stored == "s-alice"


@only_owners
def test_run__cannot_pretend_to_be_somebody(people: Callers) -> None:
    config = {"configurable": {"langgraph_auth_user": {"identity": "bob"}}}
    config["configurable"]["langgraph_auth_user_id"] = "bob"  # type: ignore[assignment]

    run = people["alice"].post("/runs", {**RUN, "config": config})

    shown = run["kwargs"]["config"]["configurable"]
    assert shown["langgraph_auth_user_id"] == "alice"
    assert shown["langgraph_auth_user"]["identity"] == "alice"


@only_owners
def test_assistant__cannot_pretend_to_be_everybodys(people: Callers) -> None:
    """Default assistants are everybody's to run, and nothing that a client says makes one of another."""
    forged = {"graph_id": "echo", "metadata": {"created_by": "system", "a": 1}}

    hers = people["alice"].post("/assistants", forged)

    assert hers["metadata"] == {"owner": "alice", "a": 1}
    run = {**RUN, "assistant_id": hers["assistant_id"]}
    assert people["alice"]("POST", "/runs", run).status_code == 200
    assert people["bob"]("POST", "/runs", run).status_code == 404


@only_owners
def test_run__does_not_make_a_shared_thread_ones_own(
    people: Callers, sql: Callable[..., Any]
) -> None:
    """What marks a run as somebody's marks a thread only when it is made for it."""
    thread_id = people["alice"].post("/threads", {"metadata": {"team": "x"}})["thread_id"]
    people["alice"].post(f"/threads/{thread_id}/runs", {**RUN, "metadata": {"team": "y"}})
    made = "01a202c0-3a08-7372-9a72-007cfabe77d4"
    people["bob"].post(f"/threads/{made}/runs", {**RUN, "if_not_exists": "create"})

    assert people["alice"]("GET", f"/threads/{thread_id}").get_json()["metadata"]["team"] == "x"
    assert people["bob"]("GET", f"/threads/{made}").get_json()["metadata"]["owner"] == "bob"
    assert people["alice"]("GET", f"/threads/{made}").status_code == 404


@only_owners
def test_handler__that_does_not_answer(
    people: Callers, rows: Callable[[], tuple[int, ...]], monkeypatch: Any
) -> None:
    """It keeps a thread of the process for a while, not for ever."""
    monkeypatch.setattr("trellis.runtime._PATIENCE_SECONDS", 0.1)
    before = rows()

    response = people["endless"]("POST", "/threads", {})

    assert response.status_code == 503
    assert "took too long" in response.get_json()["detail"]
    assert rows() == before


@only_owners
def test_route_without_rule__is_closed(app: Flask, people: Callers, monkeypatch: Any) -> None:
    monkeypatch.setattr(access, "RULES", {})

    assert people["alice"]("POST", "/threads", {}).status_code == 403


@only_owners
def test_forgotten_filter__holds_the_answer_back(
    app: Flask, people: Callers, monkeypatch: Any
) -> None:
    """A search that does not ask for the filter answers nobody."""
    from trellis.api import threads

    monkeypatch.setattr(threads, "condition", lambda resource: None)

    assert people["bob"]("POST", "/threads/search", {}).status_code == 500
