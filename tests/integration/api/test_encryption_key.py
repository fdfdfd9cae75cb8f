"""Every route, in a process that was not given the key of what it is asked for: the table is the application's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from flask.testing import FlaskClient

from integration.api.access.callers import CRON, RUN
from integration.api.access.test_routes import BODIES, CLOSED, ENDLESS, MANY, path_of
from integration.api.conftest import OnLoop, bridged
from integration.api.doubles import Worker
from trellis.api.app import create_app
from trellis.domain.runs import RunStatus
from trellis.runtime import Runtime, build
from trellis.settings import Settings

KEY, OTHER = "a key of before.", "the key of today"
ASKED: Mapping[str, Any] = {
    **BODIES,
    **MANY,
    "store.search": {"namespace_prefix": ["n"], "filter": {"pin": "x"}},
}
QUERIES: Mapping[str, str] = {"store.get": "?namespace=n&key=k"}
#: Routes that must read what is encrypted, or have no answer.
READERS = {
    "threads.get", "threads.search", "threads.copy", "threads.patch",
    "state.get", "state.list_history", "state.search_history", "state.update",
    "runs.get", "runs.list_", "runs.create", "runs.get_stateless", "runs.join",
    "assistants.get", "assistants.search", "assistants.patch", "assistants.versions",
    "crons.search", "crons.patch", "crons.run", "store.get", "store.search",
}  # fmt: skip


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LANGGRAPH_AES_KEY", KEY)
    monkeypatch.setenv("LANGGRAPH_AES_JSON_KEYS", "pin")
    return settings


@pytest.fixture
def stranger(
    rt: Runtime, settings: Settings, on_loop: OnLoop, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlaskClient]:
    """A client of a process with another key, on the same data."""
    monkeypatch.setenv("LANGGRAPH_AES_KEY", OTHER)
    other = build(settings)
    other.loop, other.reader = rt.loop, rt.reader
    yield bridged(create_app(other), on_loop).test_client()
    other.close()


@pytest.fixture
def ids(client: FlaskClient, worker: Worker, ran: Callable[[str, str], str]) -> Mapping[str, str]:
    """One of everything, with something encrypted in it; the run has failed, and nothing waits."""

    def made(path: str, body: Any) -> Any:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.data
        return answer.get_json()

    pin = {"metadata": {"pin": "x"}}
    thread_id = ran("echo", "hi")
    client.patch(f"/threads/{thread_id}", json=pin)
    run_id = made(f"/threads/{thread_id}/runs", {**RUN, **pin})["run_id"]
    error = {"error": "ValueError", "message": "boom"}
    worker.finish(worker.claim(run_id), RunStatus.ERROR, error=error)
    assistant_id = made("/assistants", {"graph_id": "echo", **pin})["assistant_id"]
    client.put("/store/items", json={"namespace": ["n"], "key": "k", "value": {"pin": "x"}})
    state = client.get(f"/threads/{thread_id}/state").get_json()
    return {
        "thread_id": thread_id,
        "run_id": run_id,
        "assistant_id": assistant_id,
        "cron_id": made("/runs/crons", {**CRON, **pin})["cron_id"],
        "checkpoint_id": state["checkpoint"]["checkpoint_id"],
        "namespace": "x",
    }


def test_routes__without_the_key(stranger: FlaskClient, ids: Mapping[str, str]) -> None:
    """What cannot be read is a 503 that says what to do, and never a bare 500."""
    told = set()
    for endpoint, method, rule in sorted(CLOSED, key=lambda route: route[1] == "DELETE"):
        if endpoint in ENDLESS:
            continue
        path = path_of(rule, ids) + QUERIES.get(endpoint, "")
        answer = stranger.open(path, method=method, json=ASKED.get(endpoint, {}))

        assert answer.status_code != 500, (endpoint, answer.data)
        if answer.status_code == 503:
            assert "add it to LANGGRAPH_AES_FALLBACK_KEYS" in answer.get_json()["detail"], endpoint
            told.add(endpoint)

    assert told >= READERS


def test_routes__with_the_key_again(
    client: FlaskClient, stranger: FlaskClient, ids: Mapping[str, str]
) -> None:
    """Who could not read it has left everything as it was."""
    path = f"/threads/{ids['thread_id']}"
    before = [client.get(each).data for each in (path, f"{path}/state", f"{path}/runs")]
    for method, body in (("PATCH", {"metadata": {"a": 1}}), ("POST", {})):
        stranger.open(path, method=method, json=body)
    stranger.post(f"{path}/runs", json=RUN)
    stranger.post(f"{path}/state", json={"values": {"value": "y"}})

    assert [client.get(each).data for each in (path, f"{path}/state", f"{path}/runs")] == before
