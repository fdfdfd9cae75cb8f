"""Routes of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import event

from trellis.api.app import create_app
from trellis.runtime import Runtime, build
from trellis.settings import Settings

Sql = Callable[..., Any]

ITEM = {"namespace": ["users", "u1"], "key": "prefs", "value": {"a": 1, "color": "red"}}


def put(client: FlaskClient, **fields: Any) -> Any:
    return client.put("/store/items", json={**ITEM, **fields})


def found(client: FlaskClient, **wanted: Any) -> list[Any]:
    response = client.post("/store/items/search", json=wanted)
    assert response.status_code == 200, response.data
    items: list[Any] = response.get_json()["items"]
    return items


def keys(client: FlaskClient, **wanted: Any) -> list[str]:
    return [item["key"] for item in found(client, **wanted)]


def minutes_left(sql: Sql, key: str) -> float | None:
    left = sql(
        "SELECT extract(epoch FROM expires_at - clock_timestamp()) / 60 FROM store_item WHERE key = :key",
        key=key,
    )
    return None if left is None else float(left)


@pytest.fixture
def serving(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., FlaskClient]]:
    """Make a client of a server with another `store` in its langgraph.json."""
    runtimes = []

    def serve(**store: Any) -> FlaskClient:
        file = tmp_path / "langgraph.json"
        file.write_bytes(orjson.dumps({"graphs": {"g": "./g.py:g"}, "store": store}))
        runtimes.append(build(replace(settings, config_path=file)))
        return create_app(runtimes[-1]).test_client()

    yield serve
    for rt in runtimes:
        rt.close()


def test_put(client: FlaskClient) -> None:
    response = put(client)

    assert (response.status_code, response.data) == (204, b"")
    item = client.get("/store/items?namespace=users.u1&key=prefs").get_json()
    assert list(item) == ["namespace", "key", "value", "created_at", "updated_at"]
    assert {name: item[name] for name in ITEM} == ITEM
    assert item["created_at"].endswith("+00:00")
    assert len(item["created_at"]) == len("2026-11-22T10:09:32.697409+00:00")


def test_put__in_the_place_of_another(client: FlaskClient) -> None:
    put(client)
    first = client.get("/store/items?namespace=users.u1&key=prefs").get_json()
    put(client, value={"b": 2})

    second = client.get("/store/items?namespace=users.u1&key=prefs").get_json()

    assert second["value"] == {"b": 2}
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"namespace": []}, 400, "Namespace cannot be empty."),
        (
            {"namespace": ["langgraph"]},
            400,
            "Root label for namespace cannot be \"langgraph\". Got: ('langgraph',)",
        ),
        (
            {"namespace": ["a.b"]},
            422,
            "Namespace label 'a.b' must be a non-empty string without periods",
        ),
        (
            {"namespace": ["x", ""]},
            422,
            "Namespace label '' must be a non-empty string without periods",
        ),
        ({"value": "str"}, 422, "Expected `object`"),
        ({"value": None}, 422, "Expected `object`"),
        ({"key": None}, 422, "Expected `str`"),
        ({"namespace": ["x"] * 101}, 422, "length <= 100"),
        ({"namespace": ["x" * 2000]}, 422, "Shorten them"),
        ({"key": "\N{SNOWMAN}" * 700}, 422, "Shorten them"),
        ({"ttl": 0}, 422, "ttl"),
        ({"ttl": -1}, 422, "ttl"),
        ({"ttl": 1e300}, 422, "ttl"),
        ({"index": True}, 422, "index must be false"),
        ({"index": "text"}, 422, "index"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_put__what_cannot_be_stored(
    client: FlaskClient, sql: Sql, fields: dict[str, Any], status: int, detail: str
) -> None:
    response = put(client, **fields)

    assert response.status_code == status
    assert detail in response.get_json()["detail"]
    assert sql("SELECT count(*) FROM store_item") == 0


def test_put__the_longest_place(client: FlaskClient) -> None:
    """Random text, which Postgres cannot compress into its index."""
    labels = [
        "".join(chr(0x4E00 + (n * 7919 + i * 104729) % 20000) for i in range(50)) for n in range(12)
    ]

    assert put(client, namespace=labels, key="\x01" * 104).status_code == 204
    assert put(client, namespace=labels, key="\x01" * 105).status_code == 422
    assert len(found(client, namespace_prefix=labels)) == 1


def test_put__an_empty_key(client: FlaskClient) -> None:
    assert put(client, key="").status_code == 204

    assert client.get("/store/items?namespace=users.u1&key=").get_json()["key"] == ""


@pytest.mark.parametrize(
    ("query", "status", "answer"),
    [
        ("namespace=users.u1&key=nope", 200, None),
        ("namespace=users&key=prefs", 200, None),
        ("namespace=users.u1", 400, {"detail": "Key is required"}),
        (
            "key=prefs",
            422,
            {"detail": "Namespace label '' must be a non-empty string without periods"},
        ),
        (
            "key=prefs&namespace=users.u1&refresh_ttl=maybe",
            422,
            {"detail": "refresh_ttl must be true or false, not 'maybe'"},
        ),
    ],
)
def test_get__nothing(client: FlaskClient, query: str, status: int, answer: Any) -> None:
    put(client)

    response = client.get(f"/store/items?{query}")

    assert (response.status_code, response.get_json()) == (status, answer)


def test_get__labels_one_by_one(client: FlaskClient) -> None:
    put(client)

    item = client.get("/store/items?namespace=users&namespace=u1&key=prefs").get_json()

    assert item["value"] == ITEM["value"]


def test_delete(client: FlaskClient) -> None:
    put(client)
    place = {"namespace": ["users", "u1"], "key": "prefs"}

    for _ in range(2):
        response = client.delete("/store/items", json=place)
        assert (response.status_code, response.data) == (204, b"")
    assert client.get("/store/items?namespace=users.u1&key=prefs").data == b"null"


def test_delete__without_a_namespace(client: FlaskClient) -> None:
    put(client)

    assert client.delete("/store/items", json={"key": "prefs"}).status_code == 204
    assert keys(client) == ["prefs"]


def test_search(client: FlaskClient) -> None:
    put(client)
    put(client, key="k2", value={"a": 2, "color": "blue"})
    put(client, namespace=["users", "u2"], key="k3", value={"a": 3})
    put(client, namespace=["users2"], key="k4")

    [first, *rest] = found(client, namespace_prefix=["users"])

    assert list(first) == ["namespace", "key", "value", "created_at", "updated_at", "score"]
    assert first["score"] is None
    assert [first["key"], *(item["key"] for item in rest)] == ["k3", "k2", "prefs"]
    assert keys(client, namespace_prefix=["users"], filter={"color": "red"}) == ["prefs"]
    assert keys(client, namespace_prefix=["users"], filter={"a": {"$gte": 2}}) == ["k3", "k2"]
    assert keys(client, namespace_prefix=["users"], limit=1, offset=1) == ["k2"]


@pytest.mark.parametrize("prefix", [{}, {"namespace_prefix": None}, {"namespace_prefix": []}])
def test_search__everywhere(client: FlaskClient, prefix: dict[str, Any]) -> None:
    put(client)

    assert keys(client, **prefix) == ["prefs"]


def test_search__a_query_without_an_index(client: FlaskClient) -> None:
    """As LangGraph documents it: without an index, a query changes nothing."""
    put(client, index=["color"])

    [item] = found(client, namespace_prefix=["users"], query="red")

    assert item["score"] is None


def test_search__that_takes_too_long(client: FlaskClient, rt: Runtime, sql: Sql) -> None:
    sql(
        "INSERT INTO store_item (tenant_id, namespace, key, value) "
        "SELECT 'default', ARRAY['n', n::text], 'k', '{}' FROM generate_series(1, 30000) n"
    )
    event.listen(rt.engine, "begin", lambda tx: tx.exec_driver_sql("SET statement_timeout = 1"))

    for path in ("/store/items/search", "/store/namespaces"):
        response = client.post(path, json={"offset": 30_000})

        assert response.status_code == 422
        assert "Give a longer namespace prefix" in response.get_json()["detail"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [["a", "u1"], ["b"], ["users", "u1"], ["users", "u2"]]),
        ({"prefix": ["users"], "max_depth": 1}, [["users"]]),
        ({"suffix": ["u2"]}, [["users", "u2"]]),
        ({"prefix": ["*", "u1"]}, [["a", "u1"], ["users", "u1"]]),
        ({"prefix": ["users", "*"]}, [["users", "u1"], ["users", "u2"]]),
        ({"prefix": ["user"]}, []),
        ({"limit": 1, "offset": 1}, [["b"]]),
        (
            {"prefix": None, "suffix": None, "max_depth": None},
            [["a", "u1"], ["b"], ["users", "u1"], ["users", "u2"]],
        ),
    ],
)
def test_namespaces(client: FlaskClient, wanted: dict[str, Any], expected: list[Any]) -> None:
    for namespace in (["users", "u1"], ["users", "u2"], ["b"], ["a", "u1"]):
        for key in ("1", "2"):
            put(client, namespace=namespace, key=key)

    response = client.post("/store/namespaces", json=wanted)

    assert response.get_json() == {"namespaces": expected}


def test_ttl(client: FlaskClient, sql: Sql) -> None:
    put(client, key="short", ttl=5)
    put(client, key="for ever")
    assert 4 < (minutes_left(sql, "short") or 0) <= 5
    assert minutes_left(sql, "for ever") is None

    sql(
        "UPDATE store_item SET expires_at = clock_timestamp() + interval '1 minute' WHERE key = 'short'"
    )
    client.get("/store/items?namespace=users.u1&key=short&refresh_ttl=false")
    found(client, namespace_prefix=["users"], refresh_ttl=False)
    assert (minutes_left(sql, "short") or 0) <= 1

    client.get("/store/items?namespace=users.u1&key=short")
    assert (minutes_left(sql, "short") or 0) > 4


def test_ttl__as_langgraph_json_says(serving: Callable[..., FlaskClient], sql: Sql) -> None:
    client = serving(ttl={"default_ttl": 30, "refresh_on_read": False})
    put(client, key="default")
    put(client, key="own", ttl=5)
    put(client, key="for ever", ttl=None)
    assert 29 < (minutes_left(sql, "default") or 0) <= 30
    assert 4 < (minutes_left(sql, "own") or 0) <= 5
    assert minutes_left(sql, "for ever") is None

    sql(
        "UPDATE store_item SET expires_at = clock_timestamp() + interval '1 minute' WHERE key = 'default'"
    )
    client.get("/store/items?namespace=users.u1&key=default")
    assert (minutes_left(sql, "default") or 0) <= 1
    client.get("/store/items?namespace=users.u1&key=default&refresh_ttl=true")
    assert (minutes_left(sql, "default") or 0) > 29


def test_expired_item__is_in_no_answer(client: FlaskClient, sql: Sql) -> None:
    put(client, ttl=5)
    sql("UPDATE store_item SET expires_at = clock_timestamp() - interval '1 second'")

    assert client.get("/store/items?namespace=users.u1&key=prefs").get_json() is None
    assert found(client) == []
    assert client.post("/store/namespaces", json={}).get_json() == {"namespaces": []}
