"""Routes of assistants."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from itertools import islice
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from trellis.domain.ids import default_assistant_id, new_id
from trellis.runtime import Runtime
from trellis.services import assistants
from trellis.services.assistants import ensure_defaults

FIELDS = [
    "assistant_id",
    "graph_id",
    "config",
    "context",
    "metadata",
    "name",
    "created_at",
    "updated_at",
    "version",
    "description",
]


def test_default_assistants(client: FlaskClient) -> None:
    assistant = client.get(f"/assistants/{default_assistant_id('hitl')}").get_json()

    assert list(assistant) == FIELDS
    assert assistant["created_at"] == assistant["updated_at"]
    assert {key: assistant[key] for key in FIELDS if not key.endswith("_at")} == {
        "assistant_id": default_assistant_id("hitl"),
        "graph_id": "hitl",
        "config": {},
        "context": {},
        "metadata": {"created_by": "system"},
        "name": "hitl",
        "version": 1,
        "description": "Asks a person",
    }


def test_default_assistants__are_made_once(rt: Runtime, rows: Callable[[], Any], sql: Any) -> None:
    sql("UPDATE assistant SET name = 'renamed' WHERE graph_id = 'echo'")
    before = rows()

    ensure_defaults(rt)

    assert rows() == before
    assert sql("SELECT name FROM assistant WHERE graph_id = 'echo'") == "renamed"
    assert sql("SELECT count(*) FROM assistant_version") == 4


def test_get__unknown(client: FlaskClient) -> None:
    response = client.get(f"/assistants/{new_id()}")

    assert (response.status_code, response.get_json()) == (404, {"detail": "Not Found"})


def test_get__by_the_name_of_a_graph_is_no_id(client: FlaskClient) -> None:
    response = client.get("/assistants/echo")

    assert response.status_code == 422
    assert response.get_json() == {"detail": "Invalid assistant ID: must be a UUID"}


def test_search__pages_tell_of_the_next(client: FlaskClient) -> None:
    wanted = {"limit": 3, "sort_by": "name", "sort_order": "asc", "select": ["name"]}

    first = client.post("/assistants/search", json=wanted)
    second = client.post("/assistants/search", json={**wanted, "offset": 3})

    assert first.get_json() == [{"name": "broken"}, {"name": "echo"}, {"name": "hitl"}]
    assert first.headers["X-Pagination-Total"] == "4"
    assert first.headers["X-Pagination-Next"] == "3"
    assert second.get_json() == [{"name": "nested"}]
    assert second.headers["X-Pagination-Total"] == "4"
    assert "X-Pagination-Next" not in second.headers


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"name": "EST"}, {"nested"}),
        ({"name": "%"}, set()),
        ({"graph_id": "echo"}, {"echo"}),
        ({"metadata": {"created_by": "system"}}, {"broken", "echo", "hitl", "nested"}),
        ({"metadata": {"created_by": "me"}}, set()),
    ],
)
def test_search_and_count(client: FlaskClient, query: dict[str, Any], names: set[str]) -> None:
    found = client.post("/assistants/search", json=query).get_json()
    count = client.post("/assistants/count", json=query).get_json()

    assert {assistant["name"] for assistant in found} == names
    assert count == len(names)


def test_search__unknown_graph(client: FlaskClient) -> None:
    response = client.post("/assistants/search", json={"graph_id": "nope"})

    assert response.status_code == 404
    assert response.get_json()["detail"].startswith("Graph 'nope' not found. Expected one of: [")


def test_schemas_and_graph(client: FlaskClient, sql: Any) -> None:
    sql(
        "INSERT INTO graph (graph_id, info) VALUES ('echo', "
        """'{"input_schema": {"title": "State"}, "drawing": {"nodes": [], "edges": []}}')"""
    )

    schemas = client.get(f"/assistants/{default_assistant_id('echo')}/schemas")
    by_name = client.get("/assistants/echo/graph")
    by_id = client.get(f"/assistants/{default_assistant_id('echo')}/graph?xray=false")

    assert schemas.get_json() == {
        "graph_id": "echo",
        "input_schema": {"title": "State"},
        "output_schema": None,
        "state_schema": None,
        "config_schema": None,
        "context_schema": None,
    }
    assert by_name.get_json() == by_id.get_json() == {"nodes": [], "edges": []}


def test_graph__that_no_worker_has_loaded_yet(client: FlaskClient) -> None:
    response = client.get("/assistants/echo/graph")

    assert response.status_code == 503
    assert "Retry-After" in response.headers


def test_graph__waits_for_a_worker_that_has_just_started(app: Flask, sql: Any) -> None:
    sql("INSERT INTO worker VALUES ('w1', 10, clock_timestamp())")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(app.test_client().get, "/assistants/echo/graph")
        too_early, _ = wait([answer], timeout=0.5)
        sql("INSERT INTO graph (graph_id, info) VALUES ('echo', '{\"drawing\": {\"nodes\": []}}')")

    assert not too_early
    assert answer.result().get_json() == {"nodes": []}


def test_graph__few_wait_and_the_others_keep_their_threads(
    app: Flask, sql: Any, rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assistants, "_TELLS_IN_SECONDS", 60)
    sql("INSERT INTO worker VALUES ('w1', 10, clock_timestamp() + interval '1 hour')")
    few = rt.settings.web_threads // 4
    with ThreadPoolExecutor(few + 3) as pool:
        asked = [
            pool.submit(app.test_client().get, "/assistants/echo/graph") for _ in range(few + 3)
        ]
        refused = list(islice(as_completed(asked, timeout=30), 3))
        sql("INSERT INTO graph (graph_id, info) VALUES ('echo', '{\"drawing\": {\"nodes\": []}}')")

    for each in refused:
        assert each.result().status_code == 503
        assert int(each.result().headers["Retry-After"]) > 0
    statuses = sorted(each.result().status_code for each in asked)
    assert statuses == [200] * few + [503] * 3
    assert app.test_client().get("/assistants/echo/graph").status_code == 200


def test_graph__that_cannot_be_imported_says_why(client: FlaskClient, sql: Any) -> None:
    sql("INSERT INTO graph (graph_id, load_error) VALUES ('broken', 'broken.py:3: no package')")

    response = client.get("/assistants/broken/graph")

    assert response.status_code == 500
    assert "broken.py:3: no package" in response.get_json()["detail"]


DESCRIBED = """{
  "drawing": {"nodes": [0]}, "xrays": [{"nodes": [1]}, {"nodes": [2]}],
  "subgraphs": {"a": {"input_schema": {"title": "A"}}, "b": {}, "a|c": {}}
}"""


@pytest.fixture
def described(sql: Any) -> None:
    sql("INSERT INTO graph (graph_id, info) VALUES ('echo', :info)", info=DESCRIBED)


@pytest.mark.parametrize(
    ("xray", "depth"),
    [("false", 0), ("1", 1), ("2", 2), ("3", 2), ("999999999", 2), ("true", 2), ("True", 2)],
)
def test_graph__xray(client: FlaskClient, described: None, xray: str, depth: int) -> None:
    response = client.get(f"/assistants/echo/graph?xray={xray}")

    assert response.get_json() == {"nodes": [depth]}


@pytest.mark.parametrize("xray", ["0", "-1", "foo", "1.5", "²", "9" * 5000, ""])
def test_graph__xray_that_is_none(client: FlaskClient, described: None, xray: str) -> None:
    response = client.get(f"/assistants/echo/graph?xray={xray}")

    assert (response.status_code, response.get_json()) == (422, {"detail": "Invalid xray value"})


def test_graph__that_cannot_be_drawn(client: FlaskClient, sql: Any) -> None:
    sql("""INSERT INTO graph (graph_id, info) VALUES ('echo', '{"drawing": null}')""")

    response = client.get("/assistants/echo/graph?xray=true")

    assert response.status_code == 422
    assert response.get_json() == {"detail": "The graph 'echo' cannot be drawn."}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ["a", "b"]),
        ("?recurse=true", ["a", "a|c", "b"]),
        ("/a", ["a"]),
        ("/a|c", []),
        ("/a%7Cc?recurse=true", ["a|c"]),
        ("/nope?recurse=true", []),
    ],
)
def test_subgraphs(client: FlaskClient, described: None, path: str, names: list[str]) -> None:
    response = client.get(f"/assistants/{default_assistant_id('echo')}/subgraphs{path}")

    assert sorted(response.get_json()) == names


def test_subgraphs__are_their_schemas(client: FlaskClient, described: None) -> None:
    found = client.get(f"/assistants/{default_assistant_id('echo')}/subgraphs/a").get_json()

    assert found == {
        "a": {
            "input_schema": {"title": "A"},
            "output_schema": None,
            "state_schema": None,
            "config_schema": None,
            "context_schema": None,
        }
    }
