"""Whatever a client sends: an answer that says what is wrong, never a 500, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient

from trellis.api.openapi import OPERATIONS
from trellis.domain.ids import default_assistant_id, new_id

ECHO = default_assistant_id("echo")

#: Bodies that no route can take.
BODIES = {
    "none": b"",
    "text": b"not json",
    "cut off": b'{"assistant_id": "echo"',
    "single quotes": b"{'assistant_id': 'echo'}",
    "no UTF-8": b'{"assistant_id": "\xff"}',
    "encoded surrogate": b'{"metadata": {"a": "\xed\xa0\x80"}}',
    "lone surrogate": rb'{"metadata": {"a": "\ud800"}, "assistant_id": "echo"}',
    "NUL": rb'{"metadata": {"a": "\u0000"}, "assistant_id": "echo"}',
    "NUL in a key": rb'{"metadata": {"\u0000": 1}, "assistant_id": "echo"}',
    "NaN": b'{"metadata": {"a": NaN}, "assistant_id": "echo"}',
    "infinite": b'{"input": 1e999, "assistant_id": "echo"}',
    "deep": b'{"input":' + b"[" * 101 + b"]" * 101 + b"}",
    "very deep": b"[" * 100_000,
    "many keys": b'{"input":{' + b",".join(b'"%d":0' % n for n in range(10_001)) + b"}}",
    "a number": b"1",
    "a string": b'"x"',
    "null": b"null",
    "a list of numbers": b"[1]",
    "a list of lists": b"[[]]",
}

#: The id of nothing.
NOBODY = "0190aaaa-0000-7000-8000-00000000dead"

#: Objects that are JSON, and wrong on some route that has the field.
WRONG_FIELDS: list[dict[str, Any]] = [
    {"assistant_id": None},
    {"assistant_id": 1},
    {"assistant_id": "nope"},
    {"assistant_id": "urn:uuid:" + ECHO[:-1]},
    {"assistant_id": "urn:uuid:" + NOBODY},
    {"assistant_id": "{" + NOBODY + "}"},
    {"assistant_id": NOBODY},
    {"assistant_id": "echo", "metadata": []},
    {"assistant_id": "echo", "config": "x"},
    {"assistant_id": "echo", "config": {"configurable": 1}},
    {"assistant_id": "echo", "config": {"tags": [1]}},
    {"assistant_id": "echo", "config": {"recursion_limit": "1"}},
    {"assistant_id": "echo", "config": {"configurable": {"a": 1}}, "context": {"b": 1}},
    {"assistant_id": "echo", "command": []},
    {"assistant_id": "echo", "command": {"goto": ["a", {"node": "b", "input": 1}]}},
    {"assistant_id": "echo", "stream_mode": "bogus"},
    {"assistant_id": "echo", "stream_mode": [1]},
    {"assistant_id": "echo", "stream_subgraphs": "yes"},
    {"assistant_id": "echo", "multitask_strategy": "bogus"},
    {"assistant_id": "echo", "durability": "bogus"},
    {"assistant_id": "echo", "if_not_exists": "bogus"},
    {"assistant_id": "echo", "after_seconds": -1},
    {"assistant_id": "echo", "after_seconds": 1e300},
    {"assistant_id": "echo", "checkpoint": "x"},
    {"assistant_id": "echo", "checkpoint": {"checkpoint_id": 1}},
    {"assistant_id": "echo", "webhook": 1},
    {"assistant_id": "echo", "webhook": ""},
    {"assistant_id": "echo", "webhook": "/hook"},
    {"assistant_id": "echo", "webhook": "ftp://example.com"},
    {"assistant_id": "echo", "webhook": "http://127.0.0.1:9/"},
    {"assistant_id": "echo", "schedule": "61 * * * *"},
    {"assistant_id": "echo", "schedule": ["@daily"]},
    {"assistant_id": "echo", "schedule": "\u0661 * * * *"},
    {"assistant_id": "echo", "timezone": "../../etc/localtime"},
    {"assistant_id": "echo", "timezone": 1},
    {"assistant_id": "echo", "end_time": "9999-12-31T23:59:59-23:59"},
    {"assistant_id": "echo", "end_time": 10**30},
    {"assistant_id": "echo", "end_time": "2026-02-30T00:00:00Z"},
    {"assistant_id": "echo", "enabled": 1},
    {"assistant_id": "echo", "on_run_completed": "bogus"},
    {"thread_id": "xx"},
    {"thread_id": 1},
    {"if_exists": "bogus"},
    {"ttl": 7},
    {"ttl": {"ttl": -1}},
    {"ttl": {"ttl": 1e300}},
    {"ttl": {"ttl": 1, "strategy": "bogus"}},
    {"supersteps": [{"updates": []}]},
    {"ids": ["xx"]},
    {"ids": [NOBODY] * 1001},
    {"metadata": 1},
    {"status": "bogus"},
    {"limit": 0},
    {"limit": 1001},
    {"limit": "1"},
    {"limit": 10**30},
    {"offset": -1},
    {"offset": 2**31},
    {"sort_by": "bogus"},
    {"sort_order": "bogus"},
    {"select": ["bogus"]},
    {"select": "thread_id"},
    {"graph_id": 1},
    {"checkpoint": None},
    {"values": "x", "as_node": []},
    {"values": "x", "checkpoint": {"checkpoint_ns": 1}},
    {"before": 1},
    {"before": {}},
    {"namespace": "x"},
    {"namespace": [1]},
    {"namespace": ["x"], "value": {}},
    {"namespace": ["x"], "key": 1, "value": {}},
    {"namespace_prefix": "x"},
    {"namespace_prefix": [""]},
    {"namespace_prefix": ["a.b"]},
    {"filter": []},
    {"filter": {"a": {"$regex": "x"}}},
    {"filter": {"a": {"$gt": 1, "b": 2}}},
    {"query": 1},
    {"refresh_ttl": "yes"},
    {"prefix": "x"},
    {"suffix": ["*", ""]},
    {"max_depth": 0},
    {"max_depth": 10**30},
]

#: Query strings of a GET.
QUERIES = [
    "limit=x",
    "limit=-1",
    "limit=1001",
    "limit=99999999999999999999",
    "offset=99999999999999999999",
    "select=bogus",
    "select=%00",
    "subgraphs=maybe",
    "check_db=maybe",
    "cancel_on_disconnect=maybe",
    "stream_mode=[",
    "stream_mode=%5B1%5D",
    "include=%ff",
    "before=%ff%fe",
    "status=%ed%a0%80",
    "xray=2",
    "key=k&namespace=%ed%a0%80",
    "key=k&namespace=a..b",
    "key=k&namespace=a&refresh_ttl=maybe",
]
IDS = ["xx", "..%2f..%2fetc", "%00", "%ff", "1", "x" * 5_000, "01a202b2-17de-7163-99f7-2d55527e04a"]

#: Routes that speak a protocol with an opinion of its own on what is malformed.
REFUSALS = {"commands.handle": 400, "feeds.events": 400}


def routes(app: Flask, *methods: str) -> list[tuple[str, str, str]]:
    """(endpoint, method, path) of every route with one of the methods."""
    return [
        (rule.endpoint, method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in methods
        if method in (rule.methods or ())
    ]


def fill(path: str, **ids: str) -> str:
    for name, value in ids.items():
        path = path.replace(f"<{name}>", value)
    return path


@pytest.fixture
def unharmed(rows: Callable[[], Any]) -> Callable[[Any], None]:
    """Fails if a response is a 500, if it does not say what is wrong, or if anything was written."""
    before = rows()

    def check(response: Any) -> None:
        assert 400 <= response.status_code < 500, (response.request.path, response.data[:300])
        told = response.get_json()
        assert list(told) == ["detail"] or told["type"] == "error"
        assert told.get("detail") or told["message"]
        assert rows() == before, response.request.path

    return check


@pytest.fixture
def ids(client: FlaskClient, thread_id: str) -> dict[str, str]:
    run = client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"}).get_json()
    body = {"assistant_id": "echo", "schedule": "@yearly", "enabled": False}
    cron = client.post("/runs/crons", json=body).get_json()
    return {
        "cron_id": cron["cron_id"],
        "thread_id": thread_id,
        "run_id": run["run_id"],
        "assistant_id": ECHO,
        "checkpoint_id": "x",
    }


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_no_route_can_take(
    app: Flask, ids: dict[str, str], unharmed: Callable[[Any], None], name: str
) -> None:
    tried = 0
    for endpoint, method, path in routes(app, "POST", "PATCH", "PUT"):
        assert OPERATIONS[endpoint].takes is not None
        if OPERATIONS[endpoint].takes is False:
            continue
        response = app.test_client().open(fill(path, **ids), method=method, data=BODIES[name])
        unharmed(response)
        assert response.status_code == REFUSALS.get(endpoint, 422)
        tried += 1
    assert tried > 10


def is_refused(endpoint: str, body: dict[str, Any]) -> bool:
    """Whether the route has a wrong field, or misses one: those it does not know are ignored."""
    takes = OPERATIONS[endpoint].takes
    known = getattr(takes, "__struct_fields__", ())
    needs = (
        {field.name for field in msgspec.structs.fields(takes) if field.required} if known else ()
    )
    wrong = [name for name in body if name != "assistant_id"]
    if not wrong:
        return "assistant_id" in needs
    return any(name in known for name in wrong) or (
        "assistant_id" in needs and len(wrong) == len(body)
    )


@pytest.mark.parametrize("body", WRONG_FIELDS, ids=lambda body: str(body)[:60])
def test_fields_that_are_wrong(
    app: Flask,
    ids: dict[str, str],
    rows: Callable[[], Any],
    unharmed: Callable[[Any], None],
    body: dict[str, Any],
) -> None:
    refused = 0
    for endpoint, method, path in routes(app, "POST", "PATCH", "PUT"):
        if endpoint == "runs.create_batch" or not is_refused(endpoint, body):
            continue
        if "stateless" in endpoint and {"checkpoint", "if_not_exists"} & body.keys():
            continue
        if body == {"checkpoint": None} and endpoint != "state.find":
            continue
        # What is wrong with a new cron must not be that it has no schedule.
        sent = {"schedule": "@yearly", **body} if endpoint.startswith("crons.create") else body
        response = app.test_client().open(fill(path, **ids), method=method, json=sent)
        unharmed(response)
        refused += 1
    assert refused


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/threads"),
        ("PATCH", "/threads/<thread_id>"),
        ("POST", "/threads/<thread_id>/runs"),
        ("POST", "/runs"),
    ],
)
def test_metadata_that_is_too_large(
    client: FlaskClient,
    ids: dict[str, str],
    unharmed: Callable[[Any], None],
    method: str,
    path: str,
) -> None:
    body = {"assistant_id": "echo", "metadata": {"a": "x" * 70_000}}

    unharmed(client.open(fill(path, **ids), method=method, json=body))


@pytest.mark.parametrize("path", ["/threads/<thread_id>", "/assistants/<assistant_id>"])
def test_metadata_that_grow_too_large(client: FlaskClient, ids: dict[str, str], path: str) -> None:
    """Each part is small enough to be sent."""
    path = fill(path, **ids)
    parts = [{"metadata": {name: "x" * 60_000}} for name in "abc"]
    assert [client.patch(path, json=part).status_code for part in parts] == [200, 200, 422]

    kept = client.get(path).get_json()
    assert {"a", "b"} <= kept["metadata"].keys()
    assert "c" not in kept["metadata"]
    # There is a way out.
    assert client.patch(path, json={"metadata": {"a": None}}).status_code == 200
    assert client.patch(path, json=parts[2]).status_code == 200


def test_a_batch_with_one_bad_run(client: FlaskClient, unharmed: Callable[[Any], None]) -> None:
    good = {"assistant_id": "echo"}
    for batch in ([], [good, {}], [good, {"assistant_id": 1}], [good] * 101, good):
        unharmed(client.post("/runs/batch", json=batch))


@pytest.mark.parametrize("bad", IDS)
def test_ids_that_are_none(
    app: Flask, ids: dict[str, str], unharmed: Callable[[Any], None], bad: str
) -> None:
    for name in ("thread_id", "run_id", "assistant_id", "cron_id"):
        with_id = [
            each for each in routes(app, "GET", "POST", "PATCH", "DELETE") if f"<{name}>" in each[2]
        ]
        assert with_id
        for endpoint, method, path in with_id:
            path = fill(path, **{**ids, name: bad})
            client = app.test_client()
            body = {"assistant_id": "echo", "checkpoint": {}}
            response = client.open(path, method=method, json=None if method == "GET" else body)
            unharmed(response)
            assert response.status_code in (404, 422, REFUSALS.get(endpoint)), endpoint


@pytest.mark.parametrize("query", QUERIES)
def test_query_strings_that_are_wrong(app: Flask, ids: dict[str, str], query: str) -> None:
    for endpoint, _, path in routes(app, "GET"):
        if endpoint in ("runs.join", "runs.stream", "runs.join_stateless", "runs.stream_stateless"):
            # Without a worker these wait: ask for a run that is not there.
            path = fill(path, run_id=new_id())
        response = app.test_client().get(f"{fill(path, **ids)}?{query}")

        assert response.status_code != 500, path
        assert response.status_code < 503 or "graph" in path or "schemas" in path


@pytest.mark.parametrize(
    "path", ["/threads", "/runs/batch", "/assistants/search", "/threads/search"]
)
def test_a_form_is_no_json(client: FlaskClient, path: str, unharmed: Callable[[Any], None]) -> None:
    unharmed(client.post(path, data={"metadata": "x"}))


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/threads//state", "/threads//runs/wait", "/runs//"])
def test_empty_id__is_nothing(client: FlaskClient, method: str, path: str) -> None:
    """Not a redirect to another resource, which a client would follow."""
    response = client.open(path, method=method, json={})

    assert response.status_code == 404, response.headers.get("Location")
    assert response.get_json() == {"detail": "Not Found"}
