"""Handlers that take longer than Postgres lets a transaction idle: none is open meanwhile, and no lock is held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event

from integration.api.conftest import Sql
from integration.api.test_encryption import HANDLERS, told, written
from trellis.runtime import Runtime
from trellis.services import crons
from trellis.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:The Encryption API is in beta")

#: Every handler takes so long; then Postgres has cut whoever had a transaction open.
SLOW = HANDLERS.read_text().replace(
    "async def encrypt_json(ctx, data):", "async def encrypt_json(ctx, data):\n    await asyncio.sleep(0.4)"
).replace(
    "async def decrypt_json(ctx, data):", "async def decrypt_json(ctx, data):\n    await asyncio.sleep(0.4)"
)  # fmt: skip
ECHO = {"assistant_id": "echo", "input": {"value": "rattlesnake"}}
IDLE = "SET idle_in_transaction_session_timeout = '200ms'"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return Settings(
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        config_path=written(tmp_path, SLOW),
    )


@pytest.fixture
def hasty(rt: Runtime) -> Runtime:
    """From now on Postgres cuts transactions that idle for less than a handler takes."""

    def limit(connection: Any, *_: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(IDLE)
        connection.commit()

    event.listen(rt.engine, "checkout", limit)
    return rt


@pytest.fixture
def post(client: FlaskClient) -> Callable[[str, Any], Any]:
    def send(path: str, body: Any) -> Any:
        answer = client.post(path, json=body, headers=told("red"))
        assert answer.status_code == 200, answer.data
        return answer.get_json()

    return send


@pytest.mark.parametrize("strategy", ["reject", "interrupt", "rollback"])
def test_create__that_waits_for_no_other(
    hasty: Runtime, post: Callable[[str, Any], Any], sql: Sql, strategy: str
) -> None:
    thread_id = post("/threads", {"metadata": {"a": "viper"}})["thread_id"]
    body = {"assistant_id": "echo", "input": {"value": "rattlesnake"}, "metadata": {"b": 1}}

    run = post(f"/threads/{thread_id}/runs", {**body, "multitask_strategy": strategy})

    assert run["kwargs"]["input"] == body["input"]
    assert run["metadata"]["a"] == "viper"
    assert "rattlesnake" not in sql("SELECT kwargs::text FROM run")


def test_create_batch(hasty: Runtime, post: Callable[[str, Any], Any], sql: Sql) -> None:
    made = post("/runs/batch", [{"assistant_id": "echo", "metadata": {"a": n}} for n in range(2)])

    assert [run["metadata"]["a"] for run in made] == [0, 1]
    assert sql("SELECT count(*) FROM run") == 2


def test_state_update(hasty: Runtime, post: Callable[[str, Any], Any], client: FlaskClient) -> None:
    thread_id = post("/threads", {"metadata": {"graph_id": "echo", "a": 1}})["thread_id"]
    path = f"/threads/{thread_id}/state"

    post(path, {"values": {"value": "rattlesnake"}, "as_node": "__start__"})
    patched = client.patch(path, json={"metadata": {"b": 2}}, headers=told("red"))

    assert patched.status_code < 300, patched.data
    state = client.get(path).get_json()
    assert (state["values"]["value"], state["metadata"]["b"]) == ("rattlesnake", 2)


def test_assistant(
    hasty: Runtime, post: Callable[[str, Any], Any], client: FlaskClient, sql: Sql
) -> None:
    made = post(
        "/assistants", {"graph_id": "echo", "context": {"x": "viper"}, "metadata": {"a": 1}}
    )
    path = f"/assistants/{made['assistant_id']}"

    renamed = client.patch(path, json={"name": "n", "metadata": {"b": 2}}, headers=told("blue"))
    changed = client.patch(path, json={"context": {"x": "rattlesnake"}}, headers=told("red"))
    restored = post(f"{path}/latest", {"version": 2})

    assert (renamed.status_code, changed.status_code) == (200, 200), renamed.data + changed.data
    assert renamed.get_json()["context"] == restored["context"] == {"x": "viper"}
    assert changed.get_json()["context"] == {"x": "rattlesnake"}
    assert restored["metadata"] == {"a": 1, "b": 2}
    assert "viper" not in sql("SELECT string_agg(to_jsonb(v)::text, ' ') FROM assistant_version v")


def test_thread(
    hasty: Runtime, post: Callable[[str, Any], Any], client: FlaskClient, sql: Sql
) -> None:
    path = f"/threads/{post('/threads', {'metadata': {'a': 'viper'}})['thread_id']}"

    patched = client.patch(path, json={"metadata": {"b": "rattlesnake"}}, headers=told("red"))

    assert patched.status_code == 200, patched.data
    assert patched.get_json()["metadata"] == {"a": "viper", "b": "rattlesnake"}
    assert "rattlesnake" not in sql("SELECT metadata::text FROM thread")


def test_cron(
    hasty: Runtime, post: Callable[[str, Any], Any], client: FlaskClient, sql: Sql
) -> None:
    body = {"assistant_id": "echo", "schedule": "0 0 1 1 *", "input": {"value": "viper"}}
    path = f"/runs/crons/{post('/runs/crons', {**body, 'metadata': {'a': 1}})['cron_id']}"

    change = {"input": {"value": "rattlesnake"}, "metadata": {"b": 2}}
    patched = client.patch(path, json=change, headers=told("red"))
    run = post(f"{path}/run", {})

    assert patched.status_code == 200, patched.data
    assert patched.get_json()["payload"]["input"] == run["kwargs"]["input"] == change["input"]
    assert patched.get_json()["metadata"] == {"a": 1, "b": 2}
    assert "rattlesnake" not in sql("SELECT to_jsonb(c)::text FROM cron c")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads", {"metadata": {"a": "rattlesnake"}}),
        ("/threads/{t}/runs", {**ECHO, "multitask_strategy": "interrupt"}),
        ("/runs/batch", [ECHO, ECHO]),
        ("/runs/crons", {**ECHO, "schedule": "0 0 1 1 *"}),
    ],
)
def test_create__once(hasty: Runtime, client: FlaskClient, sql: Sql, path: str, body: Any) -> None:
    made = client.post("/threads", json={"metadata": {"b": 1}}, headers=told("red"))
    path = path.format(t=made.get_json()["thread_id"])
    headers = {**told("red"), "Idempotency-Key": "k"}

    first, again = (client.post(path, json=body, headers=headers) for _ in range(2))

    assert first.status_code == 200, first.data
    assert b"rattlesnake" in first.data
    assert (again.data, again.headers["Idempotency-Replayed"]) == (first.data, "true")
    assert "rattlesnake" not in sql("SELECT answer::text FROM idempotency")


@pytest.mark.parametrize("on_thread", [False, True])
def test_cron__fires(
    request: pytest.FixtureRequest, post: Callable[[str, Any], Any], sql: Sql, on_thread: bool
) -> None:
    path = "/runs/crons"
    if on_thread:
        path = f"/threads/{post('/threads', {'metadata': {'a': 1}})['thread_id']}/runs/crons"
    cron = post(path, {"assistant_id": "echo", "schedule": "* * * * *", "input": {"value": "x"}})
    hasty: Runtime = request.getfixturevalue("hasty")
    sql("UPDATE cron SET next_run_at = clock_timestamp() - interval '1 second'")

    assert crons.fire(hasty) == 1

    assert sql("SELECT last_error FROM cron") is None
    assert sql("SELECT cron_id::text FROM run") == cron["cron_id"]
    assert sql("SELECT next_run_at > clock_timestamp() FROM cron")
    assert crons.fire(hasty) == 0
