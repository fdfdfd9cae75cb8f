"""The routes that tell of the server itself, and what holds for every route."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from trellis.api.app import create_app
from trellis.runtime import Runtime, build
from trellis.settings import Settings

PROJECT = Path(__file__).with_name("project") / "langgraph.json"


@pytest.mark.parametrize("path", ["/ok", "/"])
def test_ok(client: FlaskClient, path: str) -> None:
    response = client.get(path)

    assert response.status_code == 200
    assert response.data == b'{"ok":true,"services":{}}'
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Vary"] == "Origin"


def test_ok__with_check_db(client: FlaskClient) -> None:
    response = client.get("/ok?check_db=1")

    assert response.status_code == 200
    assert response.get_json() == {"ok": True, "services": {"database": "ok", "redis": "ok"}}


@pytest.fixture
def cut_off() -> FlaskClient:
    """A client of an application whose servers are not there."""
    nowhere = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1/0",
        config_path=PROJECT,
    )
    return create_app(build(nowhere)).test_client()


def test_ok__with_check_db_when_nothing_answers(cut_off: FlaskClient) -> None:
    response = cut_off.get("/ok?check_db=true")

    assert response.status_code == 500
    assert response.get_json() == {
        "ok": False,
        "services": {"database": "unreachable", "redis": "unreachable"},
    }


def test_database_down(cut_off: FlaskClient) -> None:
    response = cut_off.post("/runs", json={"assistant_id": "echo"})

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "2"
    assert "database" in response.get_json()["detail"]


def test_info(client: FlaskClient) -> None:
    info = client.get("/info").get_json()

    assert info["flags"]["assistants"] is True
    assert info["host"]["kind"] == "self-hosted"
    assert info["langgraph_py_version"].count(".") >= 1


def test_metrics(client: FlaskClient) -> None:
    client.get("/ok")
    client.get("/threads/xx")

    text = client.get("/metrics").get_data(as_text=True)

    assert 'lg_api_http_requests_total{method="GET",path="/ok",status="200"} 1.0' in text
    assert 'path="/threads/<thread_id>",status="422"} 1.0' in text
    assert 'lg_api_num_runs{status="pending"} 0.0' in text
    assert "lg_api_workers_max 0.0" in text


def test_metrics__methods_that_clients_make_up(client: FlaskClient) -> None:
    for method in ("FOO1", "FOO2"):
        client.open("/ok", method=method)

    text = client.get("/metrics").get_data(as_text=True)

    assert 'lg_api_http_requests_total{method="OTHER",path="",status="405"} 2.0' in text
    assert "FOO" not in text


def test_metrics__of_streams(client: FlaskClient) -> None:
    text = client.get("/metrics").get_data(as_text=True)

    for name in ("open", "behind", "waiting_bytes", "gaps"):
        assert f"trellis_streams_{name} 0.0" in text


def test_metrics__as_json(client: FlaskClient) -> None:
    client.get("/nowhere")

    metrics = client.get("/metrics?format=json").get_json()

    assert metrics["queue"]["n_pending"] == 0
    assert {"method": "GET", "path": "", "status": 404, "count": 1} in metrics["api"][
        "http_requests_total"
    ]


def test_metrics__workers(client: FlaskClient, sql: Callable[..., Any]) -> None:
    owners = {"w1": (10, 0), "w2": (5, 10), "dead": (100, 60)}
    for owner, (slots, seconds) in owners.items():
        sql(
            "INSERT INTO worker VALUES (:owner, :slots, clock_timestamp() - :s * interval '1 second')",
            owner=owner,
            slots=slots,
            s=seconds,
        )
    for owner in ("w1", "w1", "dead"):
        run = client.post("/runs", json={"assistant_id": "echo"}).get_json()
        sql(
            "UPDATE run SET status = 'running', lease_owner = :owner, "
            "lease_expires_at = clock_timestamp() WHERE run_id = CAST(:id AS uuid)",
            owner=owner,
            id=run["run_id"],
        )

    metrics = client.get("/metrics?format=json").get_json()
    text = client.get("/metrics").get_data(as_text=True)

    assert metrics["workers"] == {"max": 15, "active": 2, "available": 13}
    for name, count in metrics["workers"].items():
        assert f"lg_api_workers_{name} {count:.1f}" in text


def test_metrics__in_no_known_format(client: FlaskClient) -> None:
    refused = client.get("/metrics?format=xml")

    assert refused.status_code == 422
    assert refused.get_json() == {"detail": "format must be prometheus or json, not 'xml'"}


def test_metrics__without_a_database(cut_off: FlaskClient) -> None:
    cut_off.get("/ok")

    text = cut_off.get("/metrics")
    data = cut_off.get("/metrics?format=json").get_json()

    assert (text.status_code, b'path="/ok"' in text.data) == (200, True)
    assert (data["queue"], data["workers"]) == (None, None)


def test_docs__work_offline(client: FlaskClient) -> None:
    page = client.get("/docs").get_data(as_text=True)

    assert "/threads/{thread_id}/runs/stream" in page
    assert "http://" not in page
    assert "https://" not in page


def test_unknown_route(client: FlaskClient) -> None:
    response = client.get("/nope")

    assert (response.status_code, response.get_json()) == (404, {"detail": "Not Found"})


def test_wrong_method(client: FlaskClient) -> None:
    response = client.delete("/info")

    assert response.status_code == 405
    assert response.get_json() == {"detail": "Method Not Allowed"}
    assert "GET" in response.headers["Allow"]


def test_body_too_large(app: Flask) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 100

    response = app.test_client().post("/threads", data=b" " * 101)

    assert response.status_code == 413
    assert response.get_json() == {"detail": "Request Entity Too Large"}


def test_failure__that_nobody_foresaw(app: Flask) -> None:
    def fail() -> str:
        raise RuntimeError("secret")

    app.add_url_rule("/fail", "system.fail", fail)

    response = app.test_client().get("/fail")

    assert response.status_code == 500
    assert response.data == b"Internal Server Error"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_statement__that_takes_too_long(client: FlaskClient, rt: Runtime, thread_id: str) -> None:
    with rt.engine.connect() as other:
        other.exec_driver_sql("SELECT 1 FROM thread FOR UPDATE")
        event.listen(
            rt.engine, "begin", lambda tx: tx.exec_driver_sql("SET LOCAL statement_timeout = 50")
        )

        response = client.delete(f"/threads/{thread_id}")

    assert response.status_code == 503
    assert "took too long" in response.get_json()["detail"]
    assert response.headers["Retry-After"] == "2"
    assert client.get(f"/threads/{thread_id}").status_code == 200


@pytest.mark.parametrize("path", ["/threads/%00", "/threads/x?include=%00", "/runs/%00/join"])
def test_nul_in_the_url(client: FlaskClient, path: str) -> None:
    response = client.get(path)

    assert response.status_code == 422
    assert "U+0000" in response.get_json()["detail"]


def test_cors__preflight(client: FlaskClient) -> None:
    response = client.options(
        "/threads",
        headers={
            "Origin": "http://x.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key,content-type",
        },
    )

    assert (response.status_code, response.data) == (200, b"OK")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert (
        response.headers["Access-Control-Allow-Methods"]
        == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY"
    )
    assert response.headers["Access-Control-Allow-Headers"] == "x-api-key,content-type"
    assert response.headers["Access-Control-Max-Age"] == "600"
    assert response.headers["Access-Control-Allow-Private-Network"] == "true"


def test_cors__origins_of_the_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORS_ALLOW_ORIGINS", "https://good.example")
    rt = build(settings)
    client = create_app(rt).test_client()

    told = {
        origin: client.get("/ok", headers={"Origin": origin}).headers.get(
            "Access-Control-Allow-Origin"
        )
        for origin in ("https://good.example", "https://bad.example")
    }
    rt.close()

    assert told == {"https://good.example": "https://good.example", "https://bad.example": None}


@pytest.mark.parametrize("path", ["/ok", "/nope", "/threads/xx"])
def test_cors__answers_may_be_read_by_any_site(client: FlaskClient, path: str) -> None:
    response = client.get(path, headers={"Origin": "http://x.com"})

    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert (
        response.headers["Access-Control-Expose-Headers"]
        == "x-pagination-total, x-pagination-next, content-location, location"
    )
    assert "Access-Control-Allow-Credentials" not in response.headers
