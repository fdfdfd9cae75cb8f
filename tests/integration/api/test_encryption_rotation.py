"""Handlers that replace what they decrypt: reading everything once leaves nothing of the old key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from integration.api.conftest import OnLoop, Sql, bridged
from integration.api.test_encryption import written
from trellis.api.app import create_app
from trellis.dev.process import poll_until
from trellis.runtime import Runtime, build
from trellis.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:The Encryption API is in beta")

#: Turns everything round, behind the name of a key.
CODE = """
import json
from langgraph_sdk import DecryptResult, Encryption

encryption = Encryption()
NOW, KNOWN = {now!r}, {known!r}


def sealed(value):
    return NOW + ":" + json.dumps(value)[::-1]


def is_sealed(value):
    return isinstance(value, str) and value[2:3] == ":"


def opened(value):
    assert value[:2] in KNOWN, value[:2]
    return json.loads(value[3:][::-1])


@encryption.encrypt.blob
async def encrypt_blob(ctx, blob):
    return NOW.encode() + blob[::-1]


@encryption.decrypt.blob
async def decrypt_blob(ctx, blob):
    assert blob[:2].decode() in KNOWN, blob[:2]
    plain = blob[2:][::-1]
    return plain if blob[:2] == NOW.encode() else DecryptResult(plain, NOW.encode() + plain[::-1])


@encryption.encrypt.json
async def encrypt_json(ctx, data):
    return {{key: value if value is None else sealed(value) for key, value in data.items()}}


@encryption.decrypt.json
async def decrypt_json(ctx, data):
    plain = {{key: opened(value) if is_sealed(value) else value for key, value in data.items()}}
    if not any(is_sealed(value) and value[:2] != NOW for value in data.values()):
        return plain
    new = {{key: sealed(plain[key]) if is_sealed(value) else value for key, value in data.items()}}
    return DecryptResult(plain, new)
"""


def project(folder: Path, now: str, *known: str) -> Path:
    folder = folder / (now + "".join(known))
    folder.mkdir()
    return written(folder, CODE.format(now=now, known=(now, *known)))


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, config_path=project(tmp_path, "k1"))


@pytest.fixture
def client_with(
    rt: Runtime, settings: Settings, on_loop: OnLoop, tmp_path: Path
) -> Iterator[Callable[..., FlaskClient]]:
    """A client of a process with other handlers, on the same data."""
    others: list[Runtime] = []

    def start(now: str, *known: str) -> FlaskClient:
        other = build(replace(settings, config_path=project(tmp_path, now, *known)))
        other.loop, other.reader = rt.loop, rt.reader
        others.append(other)
        return bridged(create_app(other), on_loop).test_client()

    yield start
    for other in others:
        other.close()


@pytest.fixture
def thread_id(client: FlaskClient, ran: Callable[[str, str], str]) -> str:
    """A thread with a state and a run; and one of everything else beside it."""
    thread_id = ran("echo", "hi")
    for path in (f"/threads/{thread_id}", f"/threads/{thread_id}/state"):
        assert client.patch(path, json={"metadata": {"pin": "viper"}}).status_code < 300
    inner = {"configurable": {"pin": "viper"}}
    sent: Mapping[str, Any] = {
        f"/threads/{thread_id}/runs": {"assistant_id": "echo", "input": {"value": "x"}},
        "/assistants": {"graph_id": "echo", "config": inner, "metadata": {"pin": 1}},
        "/runs/crons": {"assistant_id": "echo", "schedule": "0 0 1 1 *", "metadata": {"pin": 1}},
    }
    for path, body in sent.items():
        assert client.post(path, json=body).status_code == 200
    item = {"namespace": ["a", "b"], "key": "k", "value": {"pin": [1, 2.5]}}
    assert client.put("/store/items", json=item).status_code == 204
    return thread_id


def everything(client: FlaskClient, thread_id: str) -> list[Any]:
    """What clients see."""
    asked = [
        client.get(f"/threads/{thread_id}"),
        client.get(f"/threads/{thread_id}/state"),
        client.get(f"/threads/{thread_id}/history"),
        client.get(f"/threads/{thread_id}/runs"),
        client.post("/assistants/search", json={}),
        client.post("/runs/crons/search", json={}),
        client.get("/store/items?namespace=a.b&key=k"),
    ]
    found = next(each for each in asked[4].get_json() if each["metadata"].get("pin"))
    asked.append(client.post(f"/assistants/{found['assistant_id']}/versions", json={}))
    assert [answer.status_code for answer in asked] == [200] * len(asked)
    return [answer.get_json() for answer in asked]


def columns_with(rt: Runtime, key: str) -> set[str]:
    """The columns in which something is encrypted with a key."""
    with rt.engine.connect() as tx:
        columns = tx.execute(
            text(
                "SELECT table_name, column_name, data_type FROM information_schema.columns"
                " WHERE table_schema = 'public' AND data_type IN ('bytea', 'json', 'jsonb')"
            )
        ).all()
        found = set()
        for table, column, kind in columns:
            at = f"position('h' || :key IN encode(substr({column}, 1, 1) || substr({column}, 8, 2), 'escape'))"
            shown = at if kind == "bytea" else f"position('\"' || :key || ':' IN {column}::text)"
            if tx.execute(text(f"SELECT 1 FROM {table} WHERE {shown} > 0"), {"key": key}).first():
                found.add(f"{table}.{column}")
        return found


def test_rotation(
    rt: Runtime, client: FlaskClient, client_with: Callable[..., FlaskClient], thread_id: str
) -> None:
    before = everything(client, thread_id)
    old = columns_with(rt, "k1")
    assert {table.partition(".")[0] for table in old} == {
        "assistant", "assistant_version", "checkpoint", "checkpoint_blob", "checkpoint_write",
        "cron", "run", "store_item", "thread",
    }  # fmt: skip

    rotating = client_with("k2", "k1")
    assert everything(rotating, thread_id) == before
    # A run's nodes, or whoever fires a cron, read what clients do not see.
    unseen = {"cron.run"}
    assert poll_until(lambda: columns_with(rt, "k1") <= unseen, seconds=30), columns_with(rt, "k1")

    assert columns_with(rt, "k2") >= old - unseen
    assert everything(client_with("k2"), thread_id) == before


def test_rotation__of_what_was_changed_meanwhile(
    rt: Runtime, client: FlaskClient, client_with: Callable[..., FlaskClient], sql: Sql
) -> None:
    """What somebody writes between the reading and the writing back stays."""
    made = [client.post("/threads", json={"metadata": {"a": n}}).get_json() for n in range(2)]
    first, second = (thread["thread_id"] for thread in made)
    rotating = client_with("k2", "k1")
    lock = "SELECT 1 FROM thread WHERE thread_id = CAST(:t AS uuid) FOR UPDATE"
    change = "UPDATE thread SET metadata = '{\"a\": 7}' WHERE thread_id = CAST(:t AS uuid)"
    with rt.engine.begin() as tx:
        tx.execute(text(lock), {"t": first})
        for thread_id in (first, second):
            assert rotating.get(f"/threads/{thread_id}").status_code == 200
        tx.execute(text(change), {"t": first})

    def stored(thread_id: str) -> str:
        query = "SELECT metadata::text FROM thread WHERE thread_id = CAST(:t AS uuid)"
        return str(sql(query, t=thread_id))

    # They are written in the order in which they were read.
    assert poll_until(lambda: "k2:" in stored(second), seconds=30)
    assert stored(first) == '{"a": 7}'
