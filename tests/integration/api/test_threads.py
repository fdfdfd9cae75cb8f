"""Routes of threads."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from trellis.domain.ids import new_id

FIELDS = [
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "status",
    "config",
    "values",
    "error",
    "interrupts",
]


def test_create(client: FlaskClient) -> None:
    response = client.post("/threads", json={"metadata": {"user": "u1"}})

    thread = response.get_json()
    assert response.status_code == 200
    assert list(thread) == FIELDS
    assert thread["thread_id"][14] == "7"
    assert thread["created_at"] == thread["updated_at"] == thread["state_updated_at"]
    assert thread["created_at"].endswith("+00:00")
    assert len(thread["created_at"]) == len("2026-11-22T09:59:15.678597+00:00")
    assert {key: thread[key] for key in FIELDS[4:]} == {
        "metadata": {"user": "u1"},
        "status": "idle",
        "config": {},
        "values": None,
        "error": None,
        "interrupts": {},
    }


def test_create__with_an_id_of_the_client(client: FlaskClient) -> None:
    thread_id = "01A202B2-17DE-7163-99F7-2D55527E04AD"

    thread = client.post("/threads", json={"thread_id": thread_id}).get_json()

    assert thread["thread_id"] == thread_id.lower()
    assert client.get(f"/threads/{thread_id}").get_json() == thread


def test_create__an_id_that_is_taken(client: FlaskClient, thread_id: str) -> None:
    response = client.post("/threads", json={"thread_id": thread_id})

    assert response.status_code == 409
    assert response.get_json() == {"detail": f"Thread with ID {thread_id} already exists"}


def test_create__do_nothing_returns_what_is_there(client: FlaskClient, thread_id: str) -> None:
    response = client.post(
        "/threads",
        json={"thread_id": thread_id, "if_exists": "do_nothing", "metadata": {"ignored": 1}},
    )

    assert response.status_code == 200
    assert response.get_json()["metadata"] == {}


def test_create__an_id_of_somebody_else(client: FlaskClient, thread_id: str, sql: Any) -> None:
    sql("UPDATE thread SET tenant_id = 'other'")

    response = client.post("/threads", json={"thread_id": thread_id, "if_exists": "do_nothing"})

    assert response.status_code == 409
    assert client.get(f"/threads/{thread_id}").status_code == 404


def test_get__unknown(client: FlaskClient) -> None:
    thread_id = new_id()

    response = client.get(f"/threads/{thread_id}")

    assert response.status_code == 404
    assert response.get_json() == {"detail": f"Thread with ID {thread_id} not found"}


def test_get__a_temporary_thread_is_not_there(
    client: FlaskClient, thread_id: str, sql: Any
) -> None:
    sql("UPDATE thread SET temporary = true")

    assert client.get(f"/threads/{thread_id}").status_code == 404
    assert client.patch(f"/threads/{thread_id}", json={}).status_code == 404
    assert client.get(f"/threads/{thread_id}/state").status_code == 404
    assert client.get(f"/threads/{thread_id}/runs").status_code == 404
    assert client.post("/threads/search", json={}).get_json() == []
    assert client.post("/threads/count", json={}).get_json() == 0


def test_ttl(client: FlaskClient) -> None:
    ttl = {"ttl": 5, "strategy": "keep_latest"}
    thread_id = client.post("/threads", json={"ttl": ttl}).get_json()["thread_id"]

    shown = client.get(f"/threads/{thread_id}?include=ttl").get_json()["ttl"]

    assert (shown["strategy"], shown["ttl_minutes"]) == ("keep_latest", 5.0)
    assert shown["expires_at"].endswith("+00:00")
    assert "ttl" not in client.get(f"/threads/{thread_id}?include=bogus").get_json()


def test_ttl__among_other_parts(client: FlaskClient, thread_id: str) -> None:
    for query in ("include=other,ttl", "include=other&include=ttl"):
        assert "ttl" in client.get(f"/threads/{thread_id}?{query}").get_json()


def test_ttl__starts_anew_with_a_patch(client: FlaskClient, thread_id: str, sql: Any) -> None:
    client.patch(f"/threads/{thread_id}", json={"ttl": {"ttl": 10}})

    left = sql("SELECT extract(epoch FROM expires_at - clock_timestamp()) / 60 FROM thread")
    ttl = client.get(f"/threads/{thread_id}?include=ttl").get_json()["ttl"]
    assert 9.9 < left <= 10
    assert ttl["strategy"] == "delete"


def test_ttl__there_is_none(client: FlaskClient, thread_id: str) -> None:
    assert client.get(f"/threads/{thread_id}?include=ttl").get_json()["ttl"] is None


def test_patch__merges_metadata(client: FlaskClient, thread_id: str) -> None:
    first = client.patch(f"/threads/{thread_id}", json={"metadata": {"a": 1}}).get_json()

    second = client.patch(
        f"/threads/{thread_id}", json={"metadata": {"b": 2, "a": None}}
    ).get_json()

    assert second["metadata"] == {"a": None, "b": 2}
    assert second["updated_at"] > first["updated_at"]
    assert second["created_at"] == first["created_at"]


def test_patch__minimal(client: FlaskClient, thread_id: str) -> None:
    response = client.patch(
        f"/threads/{thread_id}",
        json={"metadata": {"b": 3}},
        headers={"Prefer": "return=minimal"},
    )

    assert (response.status_code, response.data) == (204, b"")
    assert client.get(f"/threads/{thread_id}").get_json()["metadata"] == {"b": 3}


def test_patch__unknown(client: FlaskClient) -> None:
    response = client.patch(f"/threads/{new_id()}", json={"metadata": {}})

    assert (response.status_code, response.get_json()) == (404, {"detail": "Not Found"})


@pytest.fixture
def three(client: FlaskClient) -> list[str]:
    """Three threads, oldest first."""
    bodies: list[dict[str, Any]] = [
        {"metadata": {"user": "u1", "nested": {"a": 1, "b": 2}}},
        {"metadata": {"user": "u2"}},
        {},
    ]
    return [client.post("/threads", json=body).get_json()["thread_id"] for body in bodies]


def test_search__last_changed_first(client: FlaskClient, three: list[str]) -> None:
    client.patch(f"/threads/{three[0]}", json={"metadata": {"x": 1}})

    found = client.post("/threads/search", json={}).get_json()

    assert [thread["thread_id"] for thread in found] == [three[0], three[2], three[1]]
    assert list(found[0]) == FIELDS


def test_search__pages_tell_of_the_next(client: FlaskClient, three: list[str]) -> None:
    wanted = {"limit": 2, "sort_by": "created_at", "sort_order": "asc", "select": ["thread_id"]}

    first = client.post("/threads/search", json=wanted)
    second = client.post("/threads/search", json={**wanted, "offset": 2})

    assert first.get_json() == [{"thread_id": three[0]}, {"thread_id": three[1]}]
    assert first.headers["X-Pagination-Total"] == "3"
    assert first.headers["X-Pagination-Next"] == "2"
    assert second.get_json() == [{"thread_id": three[2]}]
    assert second.headers["X-Pagination-Total"] == "3"
    assert "X-Pagination-Next" not in second.headers


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"metadata": {"user": "u1"}}, [0]),
        ({"metadata": {"nested": {"a": 1}}}, [0]),
        ({"metadata": {"nested": {"a": 2}}}, []),
        ({"status": "idle"}, [0, 1, 2]),
        ({"status": "busy"}, []),
        ({"values": {}}, [0, 1, 2]),
        ({"ids": []}, []),
    ],
)
def test_search_and_count(
    client: FlaskClient, three: list[str], query: dict[str, Any], found: list[int]
) -> None:
    threads = client.post("/threads/search", json=query).get_json()
    count = client.post("/threads/count", json=query).get_json()

    assert {thread["thread_id"] for thread in threads} == {three[each] for each in found}
    assert count == len(found)


def test_search__by_ids(client: FlaskClient, three: list[str]) -> None:
    query = {"ids": [three[1].upper(), new_id()], "select": ["thread_id"]}

    found = client.post("/threads/search", json=query).get_json()

    assert found == [{"thread_id": three[1]}]
