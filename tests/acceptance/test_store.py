"""The store, through the official clients and inside graphs: one store, searched by words and by meaning."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from langgraph_sdk.errors import BadRequestError, UnprocessableEntityError

from acceptance.system import READY_SECONDS, System, wait_for


@pytest.fixture
def user() -> str:
    """A namespace label of the test's own."""
    return uuid.uuid4().hex


def keys(answer: Any) -> list[str]:
    return [item["key"] for item in answer["items"]]


def test_item__is_put_got_searched_and_deleted(client: Any, user: str) -> None:
    store, namespace = client.store, ["users", user]
    assert store.put_item(namespace, key="prefs", value={"a": 1, "color": "red"}) is None
    store.put_item(namespace, key="k2", value={"a": 2}, index=False, ttl=5)
    store.put_item([*namespace, "deeper"], key="k3", value={"a": 3}, index=["a"])

    item = store.get_item(namespace, key="prefs", refresh_ttl=False)

    assert (item["namespace"], item["key"]) == (namespace, "prefs")
    assert item["value"] == {"a": 1, "color": "red"}
    assert keys(store.search_items(namespace)) == ["k3", "k2", "prefs"]
    assert keys(store.search_items(namespace, filter={"a": {"$gt": 1}}, limit=1)) == ["k3"]
    assert keys(store.search_items(namespace, limit=1, offset=2, refresh_ttl=True)) == ["prefs"]
    store.delete_item(namespace, key="prefs")
    assert store.get_item(namespace, key="prefs") is None


def test_namespaces(client: Any, user: str) -> None:
    for namespace in ([user, "a", "x"], [user, "a", "y"], [user, "b", "x"], [user + "2", "x"]):
        client.store.put_item(namespace, key="k", value={})
    below = {"prefix": [user]}

    def found(**wanted: Any) -> Any:
        return client.store.list_namespaces(**wanted)["namespaces"]

    assert found(**below) == [[user, "a", "x"], [user, "a", "y"], [user, "b", "x"]]
    assert found(**below, suffix=["x"]) == [[user, "a", "x"], [user, "b", "x"]]
    assert found(**below, max_depth=2) == [[user, "a"], [user, "b"]]
    assert found(**below, limit=1, offset=1) == [[user, "a", "y"]]
    assert found(prefix=[user, "*", "x"]) == [[user, "a", "x"], [user, "b", "x"]]


def test_what_cannot_be_stored(client: Any, user: str) -> None:
    with pytest.raises(BadRequestError, match="Namespace cannot be empty"):
        client.store.put_item([], key="k", value={})
    with pytest.raises(BadRequestError, match="langgraph"):
        client.store.put_item(["langgraph"], key="k", value={})
    with pytest.raises(UnprocessableEntityError, match="non-empty string without periods"):
        client.store.put_item([user, ""], key="k", value={})
    with pytest.raises(UnprocessableEntityError, match="not '\\$regex'"):
        client.store.search_items([user], filter={"a": {"$regex": "x"}})


def test_search__by_meaning(client: Any, user: str) -> None:
    for key, text in (("both", "cat dog"), ("dog", "dog dog"), ("car", "car")):
        client.store.put_item([user], key=key, value={"text": text})
    client.store.put_item([user], key="unindexed", value={"text": "dog"}, index=False)

    found = client.store.search_items([user], query="dog")["items"]

    assert [(item["key"], item["score"] and round(item["score"], 4)) for item in found] == [
        ("dog", 1.0),
        ("both", 0.7071),
        ("car", 0.0),
        ("unindexed", None),
    ]
    assert keys(client.store.search_items([user], query="cat", limit=1)) == ["both"]


def test_graphs__share_the_store(client: Any, user: str) -> None:
    values = client.runs.wait(None, "meaning", input={"who": user})

    assert values["found"] == [["pet", 0.7071], ["vehicle", 0.0], ["note", None]]
    assert client.store.get_item(["memories", user], key="pet")["value"] == {
        "text": "a cat and a dog"
    }
    client.store.put_item(["memories", user], key="kennel", value={"text": "dog"})
    again = client.runs.wait(None, "meaning", input={"who": user})
    assert again["found"][0] == ["kennel", 1.0]


def test_embedding_that_fails(server: System, user: str) -> None:
    item = {"namespace": [user], "key": "k", "value": {"text": "fail"}}

    answer = server.request("PUT", "/store/items", item)

    assert answer.status == 502
    assert answer.json() == {
        "detail": "The embedding function of the store raised RuntimeError. The server's log says more."
    }
    assert server.get(f"/store/items?namespace={user}&key=k") is None
    assert "no more credit" in server.said()


def test_expired_items__are_removed(server: System, user: str) -> None:
    place = {"namespace": [user], "key": "k"}
    assert server.request("PUT", "/store/items", {**place, "value": {}, "ttl": 0.001}).status == 204

    def rows() -> Any:
        return server.rows("SELECT count(*) FROM store_item WHERE namespace = ARRAY[%s]", user)

    wait_for(lambda: rows() == [(0,)], what="the sweep")
    assert server.get(f"/store/items?namespace={user}&key=k") is None


def test_worker__does_not_start_with_embeddings_that_do_not_load(
    new_system: Callable[..., System],
) -> None:
    system = new_system()
    config = system.logs / "langgraph.json"
    config.write_text(
        '{"graphs": {"g": "./g.py:g"}, "store": {"index": {"embed": "./nowhere.py:embed", "dims": 3}}}'
    )

    worker = system.start("worker", TRELLIS_CONFIG=str(config))

    assert worker.ends(seconds=READY_SECONDS) == 2
    assert '"store.index.embed": there is no file nowhere.py' in worker.said()
