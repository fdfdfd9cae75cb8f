"""What the API takes as JSON, and what it says of the rest."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from trellis.api import body
from trellis.api.schemas import RunBatch, RunCreate, ThreadCreate, ThreadSearch
from trellis.errors import Invalid


def nested(depth: int, inner: str = "") -> bytes:
    return ("[" * depth + inner + "]" * depth).encode()


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b"null", None),
        (b'{"a":1,"a":2}', {"a": 2}),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\\u0000"', "\\u0000"),
        (nested(100), nested(100)),
    ],
)
def test_load(raw: bytes, value: Any) -> None:
    loaded = body.load(raw)

    assert loaded == value or raw == value


@pytest.mark.parametrize("raw", [b"", b"{", b"xx", b"{'a': 1}", b"[1,]", b"\xff\xfe", b'"\x00"'])
def test_load__what_is_no_json(raw: bytes) -> None:
    with pytest.raises(Invalid) as raised:
        body.load(raw)

    assert raised.value.status == 422
    assert raised.value.detail.startswith("Invalid JSON in request body")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (nested(101), "deeper than 100"),
        (nested(101, "1"), "deeper than 100"),
        (nested(1_000), "deeper than 100"),
        (nested(50_000), "deeper than 100"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "deeper than 100"),
        (rb'{"a": "x\u0000y"}', "U+0000"),
        (rb'{"a\u0000": 1}', "U+0000"),
        (nested(100, r'"\u0000"'), "U+0000"),
        (rb'"\ud800"', "surrogate"),
        (rb'["\udc00 tail"]', "surrogate"),
        (b'"\xed\xa0\x80"', "surrogate"),
        (b"[NaN]", "NaN"),
        (b'{"a": -Infinity}', "NaN"),
        (b"[1e999]", "NaN"),
        (b"{" + b",".join(b'"%d":0' % n for n in range(10_001)) + b"}", "10000 keys"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_load__what_cannot_be_stored(raw: bytes, says: str) -> None:
    with pytest.raises(Invalid) as raised:
        body.load(raw)

    assert says in raised.value.detail


@pytest.mark.parametrize(
    ("data", "into", "detail"),
    [
        ({}, RunCreate, '"assistant_id" is a required property'),
        ({"assistant_id": 1}, RunCreate, "Expected `str`, got `int` - at `$.assistant_id`"),
        (
            {"assistant_id": "a", "config": []},
            RunCreate,
            "Expected `object | null`, got `array` - at `$.config`",
        ),
        ({"ttl": 7}, ThreadCreate, "Expected `object | null`, got `int` - at `$.ttl`"),
        ({"limit": 0}, ThreadSearch, "Expected `int` >= 1 - at `$.limit`"),
        ({"limit": 1001}, ThreadSearch, "Expected `int` <= 1000 - at `$.limit`"),
        ([], ThreadCreate, "Expected `object`, got `array`"),
        (
            {"sort_order": "up"},
            ThreadSearch,
            "Invalid enum value 'up' - at `$.sort_order`. Expected one of: asc, desc",
        ),
    ],
)
def test_shape__what_does_not_fit(data: Any, into: type, detail: str) -> None:
    with pytest.raises(Invalid) as raised:
        body.shape(data, into)

    assert raised.value.detail == detail


def test_shape__an_enum_in_a_list_names_the_choices() -> None:
    with pytest.raises(Invalid, match=r"\$\.select\[0\].*Expected one of: .*thread_id"):
        body.shape({"select": ["bogus"]}, ThreadSearch)


def test_shape__unknown_fields_are_ignored() -> None:
    created = body.shape({"assistant_id": "echo", "bogus": 1}, RunCreate)

    assert created.assistant_id == "echo"


def test_identifier__any_spelling_becomes_the_canonical_one() -> None:
    spelling = "{01A202B2-17DE-7163-99F7-2D55527E04AD}"

    assert body.identifier(spelling, "run") == "01a202b2-17de-7163-99f7-2d55527e04ad"


@pytest.mark.parametrize("text", ["xx", "", "01a202b2", "01a202b2-17de-7163-99f7-2d55527e04ag"])
def test_identifier__no_uuid(text: str) -> None:
    with pytest.raises(Invalid) as raised:
        body.identifier(text, "thread")

    assert raised.value.detail == "Invalid thread ID: must be a UUID"


def test_metadata__too_large() -> None:
    with pytest.raises(Invalid, match="larger than 65536"):
        body.metadata({"a": "x" * 70_000})


@pytest.mark.parametrize(
    ("sent", "limit"),
    [({"limit": 7.0}, 7), ({"limit": 7.0, "offset": 2.0}, 7), ({"limit": 7}, 7)],
)
def test_shape__an_integer_with_a_fraction_of_zero_is_one(sent: dict[str, Any], limit: int) -> None:
    found = body.shape(sent, ThreadSearch)

    assert (found.limit, type(found.limit)) == (limit, int)
    assert type(found.offset) is int


def test_shape__an_integer_deep_inside() -> None:
    sent = [{"assistant_id": "a", "input": {"x": 1.0}, "config": {"recursion_limit": 9.0}}]

    [found] = body.shape(sent, RunBatch)

    assert found.config is not None
    assert found.config.recursion_limit == 9
    assert type(found.input["x"]) is float


@pytest.mark.parametrize("value", [7.5, 1e300, -1.0, 1001.0])
def test_shape__what_is_no_integer_in_any_spelling(value: float) -> None:
    with pytest.raises(Invalid, match=r"\$\.limit"):
        body.shape({"limit": value}, ThreadSearch)


FIRST_USE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from msgspec import defstruct
from trellis.api.body import shape

sys.setswitchinterval(1e-6)
everybody = Barrier(16)

def use(kind):
    everybody.wait()
    return shape({"inner": {"a": 1}}, kind).inner.a

with ThreadPoolExecutor(16) as threads:
    for n in range(100):
        inner = defstruct(f"Inner{n}", [(name, "int | None", None) for name in "abcdefgh"])
        kind = defstruct(f"Outer{n}", [("inner", inner), ("other", "list[int] | None", None)])
        assert set(threads.map(use, [kind] * 16)) == {1}
"""


def test_shape__first_used_by_many_threads_at_once() -> None:
    assert subprocess.run([sys.executable, "-c", FIRST_USE], check=False).returncode == 0
