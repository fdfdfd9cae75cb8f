"""What clients see of webhooks, and what becomes of them when they are switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from trellis.domain.ids import new_id
from trellis.domain.webhooks import Policy, Webhooks
from trellis.runtime import Runtime

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def configure(rt: Runtime) -> Callable[[Webhooks], None]:
    def do(webhooks: Webhooks) -> None:
        rt.manifest = replace(rt.manifest, webhooks=webhooks)

    return do


@pytest.fixture
def ended(client: FlaskClient, sql: Any, configure: Any) -> Callable[..., str]:
    """A run with a webhook that has ended. Returns its id."""

    def do(**webhooks: Any) -> str:
        configure(Webhooks(policy=Policy(disable_loopback=False), **webhooks))
        run = client.post("/runs", json={"assistant_id": "echo", "webhook": URL})
        assert run.status_code == 200, run.text
        sql("UPDATE run SET status = 'interrupted', ended_at = now()")
        return str(run.get_json()["run_id"])

    return do


@pytest.fixture(autouse=True)
def empty_outbox(sql: Any) -> None:
    sql("TRUNCATE webhook_outbox")


def test_switched_off(client: FlaskClient, sql: Any, ended: Any) -> None:
    """The run is accepted and says which webhook it would have had; nobody will be told."""
    run_id = ended(disabled=True)

    assert client.get(f"/runs/{run_id}").get_json()["kwargs"]["webhook"] == URL
    assert sql("SELECT count(*) FROM webhook_outbox") == 0


def test_switched_off__its_url_is_still_looked_at(client: FlaskClient, configure: Any) -> None:
    configure(Webhooks(disabled=True))

    refused = client.post("/runs", json={"assistant_id": "echo", "webhook": URL})

    assert refused.get_json() == {"detail": "Webhook host blocked: loopback IP range"}


def test_delivery(client: FlaskClient, sql: Any, ended: Any) -> None:
    path = f"/runs/{ended()}/webhook"
    waiting = client.get(path).get_json()
    log = '[{"attempt": 1, "at": "2026-11-22T10:00:00.000000+00:00", "error": "Refused"}]'
    sql("UPDATE webhook_outbox SET given_up_at = now(), log = CAST(:log AS jsonb)", log=log)
    given_up = client.get(path).get_json()
    sql("UPDATE webhook_outbox SET delivered_at = now()")

    assert list(waiting) == ["url", "status", "attempts", "next_attempt_at"]
    assert (waiting["url"], waiting["status"], waiting["attempts"]) == (URL, "pending", [])
    assert waiting["next_attempt_at"].endswith("+00:00")
    assert (given_up["status"], given_up["next_attempt_at"]) == ("given_up", None)
    assert given_up["attempts"][0]["error"] == "Refused"
    assert client.get(path).get_json()["status"] == "delivered"


def test_delivery__none(client: FlaskClient, sql: Any, ended: Any) -> None:
    run_id = ended()
    sql("UPDATE webhook_outbox SET tenant_id = 'other'")

    paths = [f"/runs/{run_id}/webhook", f"/runs/{new_id()}/webhook", "/runs/x/webhook"]

    assert [client.get(path).status_code for path in paths] == [404, 404, 422]
