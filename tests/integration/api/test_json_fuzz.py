"""Whatever JSON is in whichever field that a route documents: never a 500, and nothing written of what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_origin

import msgspec
import orjson
import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis import telemetry
from trellis.api.openapi import OPERATIONS
from trellis.domain.ids import default_assistant_id
from trellis.runtime import Runtime

RUN = {"assistant_id": "echo"}
CRON = {**RUN, "schedule": "@yearly"}
#: What makes a body a good one.
GOOD: Mapping[str, Mapping[str, Any]] = {
    "assistants.create": {"graph_id": "echo"},
    "assistants.set_latest": {"version": 1},
    "crons.create": CRON,
    "crons.create_on_thread": CRON,
    "runs.cancel_many": {"status": "pending"},
    "state.find": {"checkpoint": {}},
    "state.patch": {"metadata": {"a": 1}},
    "state.update": {"values": {"value": "x"}},
    "state.update_many": {"supersteps": []},
    "store.delete": {"namespace": ["x"], "key": "k"},
    "store.put": {"namespace": ["x"], "key": "k", "value": {}},
    "threads.prune": {"thread_ids": []},
    **{f"runs.create{rest}": RUN for rest in ("", "_and_stream", "_and_wait", "_batch")},
    **{f"runs.create_stateless{rest}": RUN for rest in ("", "_and_stream", "_and_wait")},
}
ENDPOINTS = sorted(name for name, each in OPERATIONS.items() if each.takes and name[:3] != "dev")

#: JSON, and what looks like it: numbers, texts, objects and depths that one layer or another cannot hold.
NUMBERS = (
    "0 -0 -1 1.0 1.5 5e-324 1e308 1e400 -1e400 NaN Infinity 9007199254740993 18446744073709551616"
)
NUMBERS += f" {10**40} {10**400} 1E+2 01 0x1"
TEXTS = [rb"\u0000", rb"a\u0000b", rb"\ud800", rb"\udfff\ud800", rb"\uffff", b"\x00", b"\xff", b""]
TEXTS += [
    rb"\x",
    "\U0001f600e\u0301\u202e".encode(),
    b"' OR 1=1 --",
    b"%00",
    b"../..",
    b"x" * 70_000,
]
TEXTS += [default_assistant_id("echo").encode(), b"9999-12-31T23:59:59-23:59", b"$eq", b"a.b", b"*"]
OTHERS = [b"null", b"true", b"[]", b"{}", b"[null]", b'{"":0}', b'{"a":1,"a":2}', rb'{"\u0000":1}']
OTHERS += [rb'{"\ud800":1}', b'{"$eq":{"$eq":1}}', b'{"__proto__":{}}', b"", b"[", b"undefined"]
OTHERS += [b"[" * depth + b"]" * depth for depth in (50, 99, 101, 5_000)]
OTHERS += [b'{"a":' * depth + b"0" + b"}" * depth for depth in (50, 101, 5_000)]
ODD = [*NUMBERS.encode().split(), *(b'"%b"' % text for text in TEXTS), *OTHERS]

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
).map(lambda value: json.dumps(value).encode())

ALL_ROWS = " UNION ALL ".join(
    f"SELECT '{table}' AS named, t::text AS held FROM {table} t"
    for table in (
        "thread",
        "run",
        "assistant",
        "assistant_version",
        "cron",
        "store_item",
        "checkpoint",
    )
)
DIGEST = f"SELECT md5(string_agg(named || held, ';' ORDER BY named, held)) FROM ({ALL_ROWS}) every"


def fields(kind: Any) -> Iterator[tuple[str, ...]]:
    """The paths of the fields of a body, those of objects in it too; `[]` is for an object in a list."""
    for field in msgspec.structs.fields(kind):
        yield (field.name,)
        for inside in structs(field.type):
            yield from ((field.name, *inside[:-1], *path) for path in fields(inside[-1]))


def structs(hint: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield (hint,)
    in_list = ("[]",) if get_origin(hint) is list else ()
    for part in get_args(hint):
        yield from ((*in_list, *inside) for inside in structs(part))


def nested(path: tuple[str, ...], raw: bytes) -> bytes:
    """The value of the first field of the path, with `raw` at its end."""
    for step in reversed(path[1:]):
        raw = b"[%b]" % raw if step == "[]" else b"{%b:%b}" % (orjson.dumps(step), raw)
    return raw


def shape_of(endpoint: str) -> Any:
    takes = OPERATIONS[endpoint].takes
    return takes if isinstance(takes, type) else next(structs(takes))[-1]


@st.composite
def bodies(draw: st.DrawFn, endpoint: str) -> bytes:
    """A good body of the route, but for what is in one or two of its fields."""
    pairs = [(name, orjson.dumps(value)) for name, value in GOOD.get(endpoint, {}).items()]
    paths = list(fields(shape_of(endpoint)))
    for path in draw(st.lists(st.sampled_from(paths), min_size=1, max_size=2)):
        odd = (path[0], nested(path, draw(st.sampled_from(ODD) | ANY_JSON)))
        others = [pair for pair in pairs if pair[0] != path[0]]
        # Sometimes beside the good one: of two equal keys, the last counts.
        pairs = [*(pairs if draw(st.booleans()) else others), odd]
    body = b"{%b}" % b",".join(b"%b:%b" % (orjson.dumps(name), raw) for name, raw in pairs)
    return b"[%b]" % body if endpoint == "runs.create_batch" else body


@pytest.fixture(autouse=True)
def plain_log(rt: Runtime) -> Iterator[None]:
    """As a process logs. What structlog does unasked, drawing every local variable of a traceback, takes seconds."""
    telemetry.configure(rt.settings)
    yield
    structlog.reset_defaults()


@pytest.fixture
def open_(app: Flask, client: FlaskClient, ran: Callable[..., str]) -> Callable[[str, bytes], Any]:
    """Send a body to a route, whose path names things that are there."""
    named = {"thread_id": ran("hitl", "v"), "assistant_id": default_assistant_id("hitl")}
    cron = client.post("/runs/crons", json={**CRON, "enabled": False}).get_json()
    rules = {rule.endpoint: rule for rule in app.url_map.iter_rules()}

    def send(endpoint: str, body: bytes) -> Any:
        rule = rules[endpoint]
        [method] = {"POST", "PUT", "PATCH", "DELETE"} & (rule.methods or set())
        values = {**named, "cron_id": cron["cron_id"]}
        path = rule.rule
        for name in rule.arguments:
            path = path.replace(f"<{name}>", values[name])
        return client.open(path, method=method, data=body)

    return send


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_odd_json(
    endpoint: str, open_: Callable[[str, bytes], Any], sql: Callable[..., Any]
) -> None:
    @settings(max_examples=20, derandomize=True, database=None)
    @given(bodies(endpoint))
    def try_(body: bytes) -> None:
        before = sql(DIGEST)
        response = open_(endpoint, body)
        response.close()

        assert response.status_code < 500, body[:500]
        if response.status_code >= 400:
            told = orjson.loads(response.data)
            # Commands of protocol v2 have an envelope of their own.
            assert told.get("detail") or told["message"], body[:500]
            assert sql(DIGEST) == before, body[:500]

    try_()


def test_fields() -> None:
    found = list(fields(shape_of("runs.create")))

    assert {("input",), ("config", "recursion_limit"), ("command", "goto")} <= set(found)
    assert ("supersteps", "[]", "updates", "[]", "values") in fields(shape_of("threads.create"))
    assert len(ENDPOINTS) > 30
