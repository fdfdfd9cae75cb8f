"""Column values: compressed bytes, versions, ids, JSON."""

import subprocess
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellis.db.checkpoints import codec
from trellis.errors import Invalid, TrellisError


@given(st.binary(max_size=2000))
def test_pack__loses_nothing(data: bytes) -> None:
    assert codec.unpack(codec.pack(data)) == data


def test_pack__compresses_what_is_large() -> None:
    assert len(codec.pack(b"a" * 10_000)) < 100
    assert codec.pack(b"a" * 512) == b"r" + b"a" * 512


def test_unpack__refuses_an_unknown_tag() -> None:
    with pytest.raises(TrellisError):
        codec.unpack(b"x123")


@pytest.mark.parametrize(
    ("current", "counter"),
    [
        (None, "00000001"),
        ("", "00000001"),
        (7, "00000008"),
        (1.5, "00000002"),
        ("00000009.ab", "00000010"),
    ],
)
def test_next_version__counts_on(current: Any, counter: str) -> None:
    assert codec.next_version(current).split(".")[0] == counter


def test_next_version__sorts_behind_and_never_repeats() -> None:
    forks = {codec.next_version("00000009.ffffffffff") for _ in range(10_000)}
    assert len(forks) == 10_000
    assert min(forks) > "00000009.ffffffffff"


def test_next_version__differs_between_forked_processes() -> None:
    code = (
        "import os, sys; from trellis.db.checkpoints.codec import next_version; next_version(None)\n"
        "for _ in range(2):\n"
        "    if os.fork() == 0: os.write(1, next_version(None).encode() + b'\\n'); os._exit(0)\n"
        "    os.wait()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    assert len(set(done.stdout.split())) == 2


@pytest.mark.parametrize("text", ["", "1", "thread-1", None, 5, {"$ne": 1}, "..%2f"])
def test_as_uuid__refuses_what_is_none(text: Any) -> None:
    with pytest.raises((Invalid, TypeError)):
        codec.as_uuid(text, what="thread_id")


def test_as_uuid__spells_it_as_postgres_does() -> None:
    plain = "0192f0c1-2d3e-7a4b-8c5d-6e7f8a9b0c1d"
    assert codec.as_uuid(plain.upper().replace("-", ""), what="thread_id") == plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": "x\0y"}, {"a": "x\ufffdy"}),
        ({"a": "x\ud800y"}, {"a": "x\ufffdy"}),
        ({"\0": {"b": ["\udfff", 1]}}, {"\ufffd": {"b": ["\ufffd", 1]}}),
        ({"a": "\\u0000"}, {"a": "\\u0000"}),
        ({"a": float("nan")}, {"a": None}),
        ({"a": 2**70}, {"a": str(2**70)}),
        ({"a": "\0", "b": {1: object}}, {"a": "\ufffd", "b": {"1": "<class 'object'>"}}),
        ({"a": "\ud83d\ude00"}, {"a": "\U0001f600"}),
    ],
)
def test_to_json__gives_what_jsonb_takes(value: dict[str, Any], expected: dict[str, Any]) -> None:
    assert orjson.loads(codec.to_json(value)) == expected
