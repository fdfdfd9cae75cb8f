"""Routes of the store where it is the operator's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore

from trellis.api.app import create_app
from trellis.errors import NotSupported
from trellis.runtime import Runtime, build
from trellis.services import store as service
from trellis.settings import Settings

PLACE = {"namespace": ["users", "u1"], "key": "k"}


class Failing(BaseStore):
    """A store whose database is gone."""

    def batch(self, ops: Any) -> Any:
        raise AssertionError("asked in a thread")

    async def abatch(self, ops: Any) -> Any:
        raise ConnectionError("postgresql://user:secret@host is gone")


@pytest.fixture
def store(rt: Runtime) -> InMemoryStore:
    rt.own_store = InMemoryStore()
    return rt.own_store


def put(client: FlaskClient, **fields: Any) -> Any:
    return client.put("/store/items", json={**PLACE, "value": {"a": 1}, **fields})


def test_item__is_put_got_searched_and_deleted(
    client: FlaskClient, store: InMemoryStore, sql: Callable[..., Any]
) -> None:
    assert put(client).status_code == 204
    assert put(client, key="k2", value={"a": 2}).status_code == 204

    item = store.get(("users", "u1"), "k")
    assert item is not None
    assert item.value == {"a": 1}
    got = client.get("/store/items?namespace=users.u1&key=k").get_json()
    assert (got["namespace"], got["key"], got["value"]) == (["users", "u1"], "k", {"a": 1})
    found = client.post("/store/items/search", json={"filter": {"a": {"$gt": 1}}}).get_json()
    assert [each["key"] for each in found["items"]] == ["k2"]
    namespaces = client.post("/store/namespaces", json={"prefix": ["users"]}).get_json()
    assert namespaces == {"namespaces": [["users", "u1"]]}
    assert client.delete("/store/items", json=PLACE).status_code == 204
    assert client.get("/store/items?namespace=users.u1&key=k").get_json() is None
    assert sql("SELECT count(*) FROM store_item") == 0


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"ttl": 5}, 422, "does not let items expire"),
        ({"ttl": None}, 204, ""),
        ({"namespace": []}, 400, "Namespace cannot be empty"),
        ({"namespace": ["langgraph"]}, 400, "langgraph"),
        ({"namespace": ["a.b"]}, 422, "without periods"),
    ],
    ids=["ttl", "for ever", "no namespace", "reserved", "label"],
)
def test_put__what_cannot_be(
    client: FlaskClient, store: InMemoryStore, fields: Any, status: int, says: str
) -> None:
    answer = put(client, **fields)

    assert (answer.status_code, says in answer.text) == (status, True)


def test_search__what_the_store_refuses(client: FlaskClient, store: InMemoryStore) -> None:
    put(client)

    answer = client.post("/store/items/search", json={"filter": {"a": {"$regex": "x"}}})

    assert answer.status_code == 422
    assert "The store refuses this: ValueError: " in answer.get_json()["detail"]


def test_get__what_json_cannot_say(client: FlaskClient, store: InMemoryStore) -> None:
    store.put(("users",), "k", {"at": float("nan"), "kind": InMemoryStore})

    answer = client.get("/store/items?namespace=users&key=k")

    assert answer.status_code == 200
    assert answer.get_json()["value"]["at"] is None


@pytest.mark.parametrize("kind", [ValueError, NotImplementedError])
def test_store_that_refuses__with_what_json_cannot_say(
    client: FlaskClient, rt: Runtime, kind: type[Exception]
) -> None:
    class Refusing(Failing):
        async def abatch(self, ops: Any) -> Any:
            raise kind("lone \ud800")

    rt.own_store = Refusing()

    answer = client.get("/store/items?namespace=users&key=k")

    assert answer.status_code == 422
    assert "lone \ufffd" in answer.get_json()["detail"]


def test_store_that_fails(client: FlaskClient, rt: Runtime) -> None:
    rt.own_store = Failing()

    answer = client.get("/store/items?namespace=users&key=k")

    assert (answer.status_code, answer.get_json()) == (
        502,
        {"detail": "The store raised ConnectionError. The server's log says more."},
    )


def test_tenants__are_not_let_in(rt: Runtime, store: InMemoryStore) -> None:
    with pytest.raises(NotSupported, match="knows no tenants"):
        service.get(rt, "acme", ("users",), "k", refresh_ttl=None)


FACTORY = """
from langgraph.graph import START, StateGraph
from langgraph_sdk.runtime import ServerRuntime
from typing_extensions import TypedDict

class State(TypedDict, total=False):
    value: str

def make(runtime: ServerRuntime):
    runtime.store.put(("made",), runtime.access_context, {})
    return StateGraph(State).add_node("say", lambda state: state).add_edge(START, "say")
"""


def test_factories__get_it(
    settings: Settings, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """Also where the web process asks for the graph."""
    (tmp_path / "made_with_a_store.py").write_text(FACTORY)
    config = tmp_path / "langgraph.json"
    config.write_text('{"graphs": {"made": "./made_with_a_store.py:make"}}')
    rt = build(replace(settings, config_path=config))
    rt.loop, rt.own_store = loop, InMemoryStore()
    client = create_app(rt).test_client()
    thread = client.post("/threads", json={"metadata": {"graph_id": "made"}}).get_json()
    state = {"values": {"value": "x"}, "as_node": "say"}

    answer = client.post(f"/threads/{thread['thread_id']}/state", json=state)

    assert answer.status_code == 200, answer.text
    client.get(f"/threads/{thread['thread_id']}/state")
    made = {item.key for item in rt.own_store.search(("made",))}
    assert made == {"threads.update", "threads.read"}
    rt.close()


def test_truncate__does_not_reach_it(rt: Runtime) -> None:
    rt.settings = replace(rt.settings, dev=True)
    rt.manifest = replace(rt.manifest, store=replace(rt.manifest.store, path="./s.py:store"))
    client = create_app(rt).test_client()

    answer = client.post("/internal/truncate", json={"store": True, "threads": True})

    assert answer.status_code == 422
    assert '"store.path"' in answer.get_json()["detail"]
    assert client.post("/internal/truncate", json={"threads": True}).status_code == 200
