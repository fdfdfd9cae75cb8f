"""The hook that decides the priority of threads: when it is asked, what it is told, what becomes of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from langgraph_sdk.priority.types import PriorityContext

from trellis.domain.access import caller
from trellis.runtime import Runtime
from trellis.services import crons

Sql = Callable[..., Any]


class Hook:
    """What the operator's function was told, and what it answers."""

    def __init__(self) -> None:
        self.told: list[PriorityContext] = []
        self.answer: Any = {"priority": -3}

    async def __call__(self, context: PriorityContext) -> Any:
        self.told.append(context)
        if isinstance(self.answer, BaseException):
            raise self.answer
        if callable(self.answer):
            return await self.answer()
        return self.answer


@pytest.fixture
def hook(rt: Runtime) -> Hook:
    hook = Hook()
    rt.priority = hook
    return hook


def create(client: FlaskClient, path: str, **fields: Any) -> Any:
    answer = client.post(path, json={"assistant_id": "echo", "input": {}, **fields})
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_first_run_of_a_thread(client: FlaskClient, hook: Hook, sql: Sql) -> None:
    thread = client.post("/threads", json={"metadata": {"tier": "gold"}}).get_json()
    path = f"/threads/{thread['thread_id']}/runs"

    run = create(client, path, metadata={"a": 1})
    create(client, path)
    create(client, path, multitask_strategy="interrupt")

    [told] = hook.told
    assert (told.thread_id, told.thread_metadata) == (thread["thread_id"], {"tier": "gold"})
    assert (told.graph_id, told.assistant_id) == ("echo", run["assistant_id"])
    assert told.assistant_metadata == {"created_by": "system"}
    assert told.run_metadata == run["metadata"]
    assert (told.user.identity, list(told.permissions), told.cron_id) == ("", [], None)
    assert sql("SELECT array_agg(DISTINCT priority) FROM run") == [-3]
    assert sql("SELECT priority FROM thread") == -3


def test_thread_that_the_run_makes(client: FlaskClient, hook: Hook, sql: Sql) -> None:
    mine = "0d3c9b1a-6f6e-4f0e-9a57-0c1f6a2b7d11"
    create(client, f"/threads/{mine}/runs", if_not_exists="create")
    create(client, "/runs")
    batch = [{"assistant_id": "echo", "input": {}}, {"assistant_id": "hitl", "input": {}}]
    assert client.post("/runs/batch", json=batch).status_code == 200

    assert [each.thread_id for each in hook.told] == [mine, None, None, None]
    assert [each.graph_id for each in hook.told] == ["echo", "echo", "echo", "hitl"]
    assert sql("SELECT array_agg(priority) FROM run") == [-3, -3, -3, -3]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("run.start", {"assistant_id": "echo", "input": {"value": "new"}}),
        ("run.start", {"assistant_id": "echo", "input": "yes", "waits": True}),
        ("input.respond", {"interrupt_id": "q", "response": "yes", "waits": True}),
        ("input.inject", {"message": {"role": "user", "content": "hi"}}),
    ],
    ids=["start", "answer", "respond", "inject"],
)
def test_command(
    client: FlaskClient, hook: Hook, sql: Sql, method: str, params: dict[str, Any]
) -> None:
    body = {"metadata": {"graph_id": "echo"}}
    thread_id = client.post("/threads", json=body).get_json()["thread_id"]
    if params.pop("waits", False):
        asked = '\'{"task": [{"id": "q", "value": 1}]}\''
        sql(f"UPDATE thread SET status = 'interrupted', interrupts = {asked} RETURNING 1")

    command = {"id": 1, "method": method, "params": params}
    answer = client.post(f"/threads/{thread_id}/commands", json=command).get_json()

    assert answer["type"] == "success", answer
    assert [told.thread_id for told in hook.told] == [thread_id]
    assert sql("SELECT priority FROM thread") == -3


def test_command__that_is_refused(client: FlaskClient, hook: Hook, thread_id: str) -> None:
    params = {"interrupt_id": "q", "response": 1}
    command = {"id": 1, "method": "input.respond", "params": params}
    answer = client.post(f"/threads/{thread_id}/commands", json=command).get_json()

    assert answer["error"] == "no_such_interrupt"
    assert hook.told == []


def test_same_request_again(client: FlaskClient, hook: Hook, sql: Sql) -> None:
    for _ in range(2):
        answer = client.post(
            "/runs", json={"assistant_id": "echo"}, headers={"Idempotency-Key": "k"}
        )
        assert answer.status_code == 200

    assert sql("SELECT array_agg(priority) FROM run") == [-3]


@pytest.mark.parametrize(
    "answer",
    [ValueError("no"), SystemExit(3), asyncio.CancelledError("no"), {"priority": 6}, {"prio": 1}],
    ids=["raises", "exits", "cancelled", "number", "key"],
)
def test_hook_that_fails(client: FlaskClient, hook: Hook, sql: Sql, answer: Any) -> None:
    """The run waits its turn without a priority, and the next one asks again."""
    thread_id = client.post("/threads", json={}).get_json()["thread_id"]
    hook.answer = answer
    create(client, f"/threads/{thread_id}/runs")
    assert sql("SELECT priority FROM thread") is None

    hook.answer = None
    create(client, f"/threads/{thread_id}/runs")
    assert sql("SELECT priority FROM thread") == 0
    assert len(hook.told) == 2


def test_hook_that_does_not_end(
    client: FlaskClient, hook: Hook, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trellis.services.priorities._PATIENCE_SECONDS", 0.05)
    hook.answer = asyncio.Event().wait

    create(client, "/runs")

    assert sql("SELECT rank_at FROM run") is None


def test_what_cannot_run_is_said_as_ever(client: FlaskClient, hook: Hook) -> None:
    nowhere = "0d3c9b1a-6f6e-4f0e-9a57-0c1f6a2b7d12"

    assert client.post("/runs", json={"assistant_id": "nobody"}).status_code == 422
    assert client.post("/runs", json={"assistant_id": nowhere}).status_code == 404
    body = {"assistant_id": "echo"}
    assert client.post(f"/threads/{nowhere}/runs", json=body).status_code == 404


def test_cron(client: FlaskClient, hook: Hook, rt: Runtime, sql: Sql) -> None:
    cron = create(client, "/runs/crons", schedule="0 0 * * *")
    sql("UPDATE cron SET next_run_at = clock_timestamp() RETURNING 1")

    assert crons.fire(rt) == 1

    [told] = hook.told
    assert told.cron_id == cron["cron_id"]
    assert sql("SELECT priority FROM run") == -3


@pytest.mark.parametrize("how", ["fire", "run"])
def test_cron__no_transaction_waits_for_the_hook(
    client: FlaskClient, thread_id: str, hook: Hook, rt: Runtime, sql: Sql, how: str
) -> None:
    cron = create(client, f"/threads/{thread_id}/runs/crons", schedule="0 0 * * *")
    sql("UPDATE cron SET next_run_at = clock_timestamp() RETURNING 1")
    waiting: list[int] = []

    async def look() -> Any:
        waiting.append(
            sql(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND state = 'idle in transaction'"
            )
        )
        return {"priority": 2}

    hook.answer = look
    if how == "fire":
        assert crons.fire(rt) == 1
    else:
        assert client.post(f"/runs/crons/{cron['cron_id']}/run").status_code == 200

    assert waiting == [0]
    assert sql("SELECT priority FROM run") == 2


def test_hooks_own_clients_stay_in_the_tenant(rt: Runtime, hook: Hook, sql: Sql) -> None:
    from trellis.domain.new_run import NewRun
    from trellis.services import runs

    async def tenant() -> Any:
        return {"priority": 1 if caller.get().tenant_id == "acme" else 5}

    hook.answer = tenant
    runs.create(rt, "acme", None, NewRun(assistant_id="echo"))

    assert sql("SELECT priority FROM run") == 1
