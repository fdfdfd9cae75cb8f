"""Stored values as the web process shows them."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import ormsgpack
import pytest
from langchain_core import messages
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Interrupt, Send
from pydantic import BaseModel, SecretStr

from trellis.db import plain
from trellis.db.plain import to_plain
from trellis.db.serde import serializer
from trellis.errors import TrellisError

Pair = namedtuple("Pair", "a b")


class Colour(Enum):
    RED = "red"


class Keys(BaseModel):
    secret: SecretStr
    owner: UUID


HUMAN = {
    "content": "hi", "additional_kwargs": {}, "response_metadata": {}, "type": "human", "name": None, "id": "1",
}  # fmt: skip


def shown(value: Any) -> Any:
    return to_plain(*serializer().dumps_typed(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (b"text", "text"),
        (bytearray(b"\xff\xfe"), "//4="),
        ([b"text", b"\xff"], ["text", "/w=="]),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Decimal("1.50"), "1.50"),
        ({7}, [7]),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(1, 2), "01:02:00"),
        (time(1, 2, tzinfo=UTC), "01:02:00+00:00"),
        (time(1, 2, tzinfo=timezone(timedelta(hours=2))), "01:02:00+02:00"),
        (time(1, 2, tzinfo=ZoneInfo("Europe/Zurich")), "01:02:00"),
        (timedelta(days=1, seconds=2), 86402.0),
        (UTC, "UTC"),
        (timezone(timedelta(hours=2), "CEST"), "CEST"),
        (ZoneInfo("Europe/Zurich"), "Europe/Zurich"),
        (Colour.RED, "red"),
        (Pair(1, {2}), {"a": 1, "b": [2]}),
        (Keys(secret="s", owner=UUID(int=1)), {"secret": "**********", "owner": str(UUID(int=1))}),
        (
            Send("n", {"m": [messages.HumanMessage("hi", id="1")]}),
            {"node": "n", "arg": {"m": [HUMAN]}},
        ),
        (Interrupt(value=1, id="i"), {"value": 1, "id": "i"}),
        (_DeltaSnapshot([1, 2]), [1, 2]),
        (
            {1: "a", None: "b", 1.5: "c", (1, 2): "d"},
            {"1": "a", "null": "b", "1.5": "c", "(1, 2)": "d"},
        ),
        ({"deep": {1: {UUID(int=1)}}}, {"deep": {"1": [str(UUID(int=1))]}}),
        ("a lone \ud800", "a lone ?"),
    ],
)
def test_value__is_shown_as_json(value: Any, expected: Any) -> None:
    assert shown(value) == expected
    assert orjson.loads(orjson.dumps(shown(value))) == expected


def test_path__is_shown_as_text() -> None:
    path = PurePosixPath("/a/b")
    packed = ormsgpack.packb(("pathlib", "PosixPath", path.parts))
    assert to_plain("msgpack", ormsgpack.packb(ormsgpack.Ext(1, packed))) == "/a/b"


@pytest.mark.parametrize(
    "message",
    [
        messages.HumanMessage("hi", id="1"),
        messages.AIMessage(
            "a", tool_calls=[{"name": "f", "args": {}, "id": "c", "type": "tool_call"}]
        ),
        messages.ToolMessage("t", tool_call_id="c"),
    ],
)
def test_message__is_shown_with_its_keys_in_order(message: messages.BaseMessage) -> None:
    assert orjson.dumps(shown([message])) == orjson.dumps([message.model_dump()])


@pytest.mark.parametrize(
    ("dtype", "shape", "order", "data", "expected"),
    [
        ("<i4", (2, 2), "C", b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0", [[1, 2], [3, 4]]),
        ("<i4", (2, 2), "F", b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0", [[1, 3], [2, 4]]),
        (">i2", (2,), "C", b"\0\1\0\2", [1, 2]),
        ("|b1", (2,), "C", b"\1\0", [True, False]),
        ("<f8", (), "C", b"\0\0\0\0\0\0\xf8?", 1.5),
        ("<i4", (0, 3), "C", b"", []),
        ("<U1", (1,), "C", b"a\0\0\0", "a\0\0\0"),
    ],
)
def test_numpy_array__is_shown_as_lists(
    dtype: str, shape: tuple[int, ...], order: str, data: bytes, expected: Any
) -> None:
    packed = ormsgpack.packb((dtype, shape, order, data))
    assert to_plain("msgpack", ormsgpack.packb(ormsgpack.Ext(6, packed))) == expected


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("pickle", b"x"),
        ("json", b"{}"),
        ("msgpack", b"\xc1"),
        ("msgpack", ormsgpack.packb(ormsgpack.Ext(99, b"\xc0"))),
        ("msgpack", ormsgpack.packb(ormsgpack.Ext(0, b"\xc1"))),
    ],
)
def test_row_that_we_did_not_write__is_refused(kind: str, data: bytes) -> None:
    with pytest.raises(TrellisError):
        to_plain(kind, data)


def test_row_that_only_pretends_to_be_a_date__is_shown_as_it_stands() -> None:
    packed = ormsgpack.packb(("datetime", "date", [99999, 1, 1]))
    assert to_plain("msgpack", ormsgpack.packb(ormsgpack.Ext(1, packed))) == [99999, 1, 1]


def test_extension_codes__are_langgraphs() -> None:
    assert [
        plain.SINGLE_ARG, plain.POSITIONAL, plain.KEYWORDS, plain.NUMPY, plain.SNAPSHOT,
    ] == [
        jsonplus.EXT_CONSTRUCTOR_SINGLE_ARG, jsonplus.EXT_CONSTRUCTOR_POS_ARGS,
        jsonplus.EXT_CONSTRUCTOR_KW_ARGS, jsonplus.EXT_NUMPY_ARRAY, jsonplus.EXT_DELTA_SNAPSHOT,
    ]  # fmt: skip


def test_reading_values__imports_no_langgraph() -> None:
    code = (
        "import sys, trellis.db.checkpoints, trellis.db.plain;"
        "assert not [m for m in sys.modules if m.startswith(('langgraph', 'langchain', 'pydantic'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
