"""Idempotency-Key: the same create, however often it is sent, is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from trellis.domain.ids import new_id
from trellis.runtime import Runtime

HEADERS = {"Idempotency-Key": "order-1"}
ECHO = {"assistant_id": "echo", "input": {"value": "a"}}


@pytest.fixture(autouse=True)
def no_keys(sql: Any) -> Iterator[None]:
    yield
    sql("TRUNCATE idempotency")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads", {"metadata": {"a": 1}}),
        ("/threads", {"thread_id": new_id()}),
        ("/threads/{t}/runs", ECHO),
        ("/runs", ECHO),
        ("/runs/batch", [ECHO, ECHO]),
    ],
)
def test_create__again(
    client: FlaskClient, rows: Any, thread_id: str, path: str, body: Any
) -> None:
    path = path.format(t=thread_id)
    first = client.post(path, json=body, headers=HEADERS)
    before = rows()

    again = client.post(path, json=body, headers=HEADERS)

    assert first.status_code == again.status_code == 200, again.text
    assert first.data == again.data
    assert rows() == before
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers.get("Content-Location") == first.headers.get("Content-Location")


def test_create__first_answer_even_after_the_run_has_ended(
    client: FlaskClient, sql: Any, thread_id: str
) -> None:
    path = f"/threads/{thread_id}/runs"
    first = client.post(path, json=ECHO, headers=HEADERS)
    sql("UPDATE run SET status = 'interrupted', ended_at = now()")

    assert client.post(path, json=ECHO, headers=HEADERS).data == first.data


def test_create__first_answer_even_after_its_thread_is_gone(
    client: FlaskClient, sql: Any, thread_id: str
) -> None:
    path = f"/threads/{thread_id}/runs"
    first = client.post(path, json=ECHO, headers=HEADERS)
    sql("DELETE FROM thread")

    assert client.post(path, json=ECHO, headers=HEADERS).data == first.data


@pytest.mark.parametrize(
    "path", ["/threads/{t}/runs/wait", "/runs/wait", "/threads/{t}/runs/stream", "/runs/stream"]
)
def test_create__follows_the_same_run(
    client: FlaskClient, sql: Any, rows: Any, thread_id: str, path: str
) -> None:
    path = path.format(t=thread_id)
    # Nothing executes it here, so its end has to be there before somebody waits for it.
    with client.post(path, json=ECHO, headers=HEADERS, buffered=False) as first:
        location = first.headers["Content-Location"]
    sql(
        'UPDATE run SET status = \'error\', ended_at = now(), error = \'{"error": "E", "message": "m"}\''
    )
    before = rows()

    again = client.post(path, json=ECHO, headers=HEADERS)

    assert again.headers["Content-Location"] == location
    assert again.headers["Idempotency-Replayed"] == "true"
    assert b'"error":"E"' in again.data
    assert rows() == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/runs", {**ECHO, "input": {"value": "b"}}),
        ("/runs/wait", ECHO),
        ("/runs/batch", [ECHO]),
        ("/threads", ECHO),
    ],
)
def test_create__another_request_with_the_key(
    client: FlaskClient, rows: Any, path: str, body: Any
) -> None:
    client.post("/runs", json=ECHO, headers=HEADERS)
    before = rows()

    refused = client.post(path, json=body, headers=HEADERS)

    assert refused.status_code == 409
    assert "Idempotency-Key was used for another request" in refused.get_json()["detail"]
    assert rows() == before


def test_create__same_meaning_other_bytes(client: FlaskClient) -> None:
    first = client.post(
        "/runs", data=b'{"assistant_id":"echo","input":{"a":1,"b":2}}', headers=HEADERS
    )
    again = client.post(
        "/runs", data=b'{ "input": {"b":2, "a":1}, "assistant_id": "echo" }', headers=HEADERS
    )

    assert first.data == again.data


def test_create__a_refused_one_takes_no_key(client: FlaskClient, thread_id: str) -> None:
    gone = client.post(f"/threads/{new_id()}/runs", json=ECHO, headers=HEADERS)

    assert gone.status_code == 404
    assert client.post(f"/threads/{thread_id}/runs", json=ECHO, headers=HEADERS).status_code == 200


def test_create__after_a_day_the_key_is_new(client: FlaskClient, sql: Any) -> None:
    first = client.post("/runs", json=ECHO, headers=HEADERS).get_json()
    sql("UPDATE idempotency SET created_at = now() - interval '25 hours'")

    again = client.post("/runs", json=[], headers=HEADERS)
    other = client.post("/runs", json={**ECHO, "metadata": {"n": 2}}, headers=HEADERS)

    assert again.status_code == 422
    assert other.get_json()["run_id"] != first["run_id"]
    assert "Idempotency-Replayed" not in other.headers


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\xe9"])
@pytest.mark.parametrize("path", ["/runs", "/threads", "/runs/batch"])
def test_create__bad_key(client: FlaskClient, rows: Any, path: str, key: str) -> None:
    before = rows()

    refused = client.post(
        path, json=[ECHO] if path == "/runs/batch" else ECHO, headers={"Idempotency-Key": key}
    )

    assert refused.status_code == 422
    assert "Idempotency-Key" in refused.get_json()["detail"]
    assert rows() == before


def test_create__many_at_once(app: Flask, rows: Any, sql: Any) -> None:
    """Whatever the interleaving: one creates, the others are given what it made."""

    def send(n: int) -> str:
        headers = {"Idempotency-Key": f"race-{n % 4}"}
        response = app.test_client().post("/runs", json=ECHO, headers=headers)
        assert response.status_code == 200, response.text
        return response.get_json()["run_id"]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(send, range(40)))

    assert len(set(made)) == 4 == sql("SELECT count(*) FROM run")
    assert [made[n] == made[n % 4] for n in range(40)] == [True] * 40


def test_create__without_a_key_no_statement_more(
    client: FlaskClient, statements: list[str], thread_id: str
) -> None:
    client.post(f"/threads/{thread_id}/runs", json=ECHO)
    statements.clear()

    client.post(f"/threads/{thread_id}/runs", json=ECHO)

    assert len(statements) == 2
    assert not any("idempotency" in statement for statement in statements)


@pytest.fixture
def statements(rt: Runtime) -> list[str]:
    """What the process asks of Postgres."""
    seen: list[str] = []
    hear: Callable[..., None] = lambda _, __, statement, *___: seen.append(statement)  # noqa: E731
    for engine in (rt.engine, rt.autocommit):
        event.listen(engine, "before_cursor_execute", hear)
    return seen
