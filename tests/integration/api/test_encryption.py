"""Encryption handlers behind the API: what they are told of a request, and what becomes of it when they fail."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from integration.api.conftest import Sql
from trellis.errors import ConfigError
from trellis.graphs import manifest, vault
from trellis.settings import Settings

PROJECT = Path(__file__).with_name("project")
HANDLERS = Path(__file__).parents[2] / "acceptance" / "graphs" / "encrypting.py"

pytestmark = pytest.mark.filterwarnings("ignore:The Encryption API is in beta")


def told(team: str) -> dict[str, str]:
    return {"X-Encryption-Context": base64.b64encode(json.dumps({"team": team}).encode()).decode()}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """The usual ones, for a project with handlers of its own."""
    return Settings(
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        config_path=written(tmp_path, HANDLERS.read_text()),
    )


def written(folder: Path, code: str, name: str = "encryption") -> Path:
    (folder / "handlers.py").write_text(code)
    graphs = {"echo": f"{PROJECT / 'graphs.py'}:echo"}
    raw = {"graphs": graphs, "encryption": {"path": f"./handlers.py:{name}"}}
    path = folder / "langgraph.json"
    path.write_text(json.dumps(raw))
    return path


def test_context__is_stored_and_restored(client: FlaskClient, sql: Sql) -> None:
    """Each value has the context of the request that wrote it; whoever reads needs none."""
    body = {"metadata": {"a": "rattlesnake", "owner": "me"}}
    made = client.post("/threads", json=body, headers=told("red")).get_json()
    path = f"/threads/{made['thread_id']}"
    client.patch(path, json={"metadata": {"b": "viper"}}, headers=told("blue"))

    stored = sql("SELECT metadata::text FROM thread")
    assert stored.count('"team": "red"') == stored.count('"team": "blue"') == 1
    assert "rattlesnake" not in stored
    assert "viper" not in stored
    shown = client.get(path).get_json()["metadata"]
    assert shown == {"a": "rattlesnake", "b": "viper", "owner": "me"}
    found = client.post("/threads/search", json={"metadata": {"owner": "me"}}, headers=told("red"))
    assert found.get_json()[0]["metadata"] == shown


@pytest.mark.parametrize(
    "header",
    ["!", "e30", base64.b64encode(b"[1]").decode(), base64.b64encode(b'{"a": ').decode()],
)
def test_context__that_makes_no_sense(client: FlaskClient, header: str) -> None:
    refused = client.post("/threads", json={}, headers={"X-Encryption-Context": header})

    assert refused.status_code == 422
    assert "X-Encryption-Context must be a JSON object" in refused.get_json()["detail"]


def test_context__of_more_than_is_kept(client: FlaskClient) -> None:
    assert client.post("/threads", json={}, headers=told("x" * 5000)).status_code == 422


@pytest.mark.parametrize("path", ["/threads", "/runs", "/assistants", "/store/items"])
def test_handler_that_fails__writes_nothing(
    client: FlaskClient, rows: Any, sql: Sql, path: str
) -> None:
    body = {
        "/threads": {"metadata": {"a": 1}},
        "/runs": {"assistant_id": "echo"},
        "/assistants": {"graph_id": "echo", "metadata": {"a": 1}},
        "/store/items": {"namespace": ["n"], "key": "k", "value": {"a": 1}},
    }[path]
    before = (*rows(), sql("SELECT count(*) FROM store_item"))

    verb = client.put if path == "/store/items" else client.post
    failed = verb(path, json=body, headers=told("green"))

    assert failed.status_code == 502
    assert failed.get_json()["detail"].startswith("An encryption handler failed (ValueError)")
    assert (*rows(), sql("SELECT count(*) FROM store_item")) == before


def test_run__keeps_its_context_to_itself(client: FlaskClient, sql: Sql) -> None:
    run = client.post("/runs", json={"assistant_id": "echo"}, headers=told("red")).get_json()

    assert "encryption_context" not in run["kwargs"]
    assert '"team":"red"' in sql("SELECT kwargs::text FROM run").replace(" ", "")


def test_cron__keeps_the_context_of_its_maker(client: FlaskClient, sql: Sql) -> None:
    body = {"assistant_id": "echo", "schedule": "0 0 1 1 *"}
    cron = client.post("/runs/crons", json=body, headers=told("red")).get_json()
    path = f"/runs/crons/{cron['cron_id']}"

    changed = client.patch(path, json={"input": {"value": "b"}}, headers=told("blue"))

    assert changed.status_code == 200
    assert client.post(f"{path}/run").get_json()["kwargs"]["input"] == {"value": "b"}
    stored = sql("SELECT kwargs::text FROM run").replace(" ", "")
    assert '"team":"red"' in stored
    assert '"team":"blue"' not in stored


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("encryption = 1", "encryption is no langgraph_sdk.Encryption"),
        ("1 / 0", "ZeroDivisionError"),
        ("from langgraph_sdk import Encryption\nencryption = Encryption()", "has no handlers"),
        (
            "from langgraph_sdk import Encryption\nencryption = Encryption()\n"
            "@encryption.encrypt.blob\nasync def e(ctx, blob): return blob",
            "has encrypt.blob without decrypt.blob",
        ),
    ],
)
def test_handlers_that_are_none__stop_the_start(tmp_path: Path, code: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        vault.build(manifest.load(written(tmp_path, code)))

    assert '"encryption.path"' in str(refused.value)
