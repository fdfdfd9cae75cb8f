"""Threads found by their values, and what is extracted from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from trellis.services import threads

RunGraph = Callable[[str, str, str], None]


@pytest.fixture
def four(client: FlaskClient, run_graph: RunGraph) -> list[str]:
    """Threads, oldest first: two with the value `x`, one with `y`, one on which nothing was saved."""
    made = [
        client.post("/threads", json={"metadata": {"n": n}}).get_json()["thread_id"]
        for n in range(4)
    ]
    for thread_id, value in zip(made, ["x", "x", "y"], strict=False):
        run_graph("echo", thread_id, value)
    return made


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"values": {"value": "x"}}, [1, 0]),
        ({"values": {"log": ["Y"]}}, [2]),
        ({"values": {"log": ["Y"], "value": "x"}}, []),
        ({"values": {"log": []}}, [2, 1, 0]),
        ({"values": {"nope": None}}, []),
        ({"values": {"value": "x"}, "metadata": {"n": 0}}, [0]),
        ({"values": {"value": "x"}, "status": "busy"}, []),
        ({"values": {"value": "x"}, "sort_by": "created_at", "sort_order": "asc"}, [0, 1]),
        ({"values": {}}, [3, 2, 1, 0]),
    ],
)
def test_by_values(
    client: FlaskClient, four: list[str], query: dict[str, Any], found: list[int]
) -> None:
    rows = client.post("/threads/search", json=query).get_json()
    count = client.post("/threads/count", json=query).get_json()

    assert [four.index(row["thread_id"]) for row in rows] == found
    assert count == len(found)


def test_by_values__pages_tell_of_the_next(client: FlaskClient, four: list[str]) -> None:
    wanted = {"values": {"log": []}, "limit": 2, "select": ["thread_id"]}

    first = client.post("/threads/search", json=wanted)
    second = client.post("/threads/search", json={**wanted, "offset": 2})

    assert first.get_json() == [{"thread_id": four[2]}, {"thread_id": four[1]}]
    assert first.headers["X-Pagination-Next"] == "2"
    assert second.get_json() == [{"thread_id": four[0]}]
    assert "X-Pagination-Next" not in second.headers


def test_by_values__reads_no_more_than_it_may(
    client: FlaskClient, four: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MOST_READ", 2)
    query = {"values": {"value": "x"}}

    enough = client.post("/threads/search", json={**query, "status": "idle", "metadata": {"n": 1}})
    too_few = client.post("/threads/search", json={"values": {"value": "y"}, "limit": 1})
    search = client.post("/threads/search", json=query)
    count = client.post("/threads/count", json=query)

    assert [row["thread_id"] for row in enough.get_json()] == [four[1]]
    for refused in (too_few, search, count):
        assert refused.status_code == 422
        assert "reads at most 2 threads" in refused.get_json()["detail"]


def test_extract(client: FlaskClient, four: list[str]) -> None:
    paths = {"n": "metadata.n", "last": "values.log[-1]", "all": "values", "none": "values.x.y"}

    rows = client.post("/threads/search", json={"extract": paths, "select": ["thread_id"]})

    assert rows.get_json()[1:3] == [
        {
            "thread_id": four[2],
            "extracted": {"n": 2, "last": "Y", "all": {"value": "y", "log": ["Y"]}, "none": None},
        },
        {
            "thread_id": four[1],
            "extracted": {"n": 1, "last": "X", "all": {"value": "x", "log": ["X"]}, "none": None},
        },
    ]
    assert rows.get_json()[0]["extracted"] == {"n": 3, "last": None, "all": None, "none": None}


def test_extract__from_one_value(client: FlaskClient, four: list[str]) -> None:
    body = {"extract": {"last": "values.log[-1]"}, "ids": [four[2]], "select": ["status"]}

    rows = client.post("/threads/search", json=body).get_json()

    assert rows == [{"status": "idle", "extracted": {"last": "Y"}}]


def test_extract__beside_everything_else(client: FlaskClient, four: list[str]) -> None:
    rows = client.post("/threads/search", json={"extract": {"v": "values.value"}}).get_json()

    assert [row["extracted"]["v"] for row in rows] == [None, "y", "x", "x"]
    assert rows[1]["values"] == {"value": "y", "log": ["Y"]}
    assert "error" in rows[1]


@pytest.mark.parametrize(
    ("paths", "detail"),
    [
        ({"u": "bogus.user"}, "Extract path 'bogus.user' must start with one of"),
        ({"u": "values.a["}, "must go on with .key or [place]"),
        ({str(n): "metadata.a" for n in range(11)}, "length <= 10"),
        ({"u": 1}, "Expected `str`"),
    ],
    ids=["root", "step", "many", "number"],
)
def test_extract__refused(client: FlaskClient, paths: dict[str, Any], detail: str) -> None:
    response = client.post("/threads/search", json={"extract": paths})

    assert response.status_code == 422
    assert detail in response.get_json()["detail"]
