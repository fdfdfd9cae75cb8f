from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections import OrderedDict, UserDict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import langchain_core.messages as messages
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langgraph.types import Interrupt
from pydantic import BaseModel, SecretStr
from pydantic.v1 import BaseModel as BaseModelV1

from trellis.stream.encoder import dumps

CALL = {"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}
MESSAGES: list[messages.BaseMessage] = [
    messages.HumanMessage("hi", name="ann", additional_kwargs={"k": [1]}),
    messages.HumanMessage([{"type": "text", "text": "é"}]),
    messages.HumanMessageChunk(content="h"),
    messages.SystemMessage("s", id="1"),
    messages.SystemMessageChunk(content="s"),
    messages.AIMessage("a", id="lc_run--1", tool_calls=[CALL], response_metadata={"model": "m"}),
    messages.AIMessage(
        "", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    ),
    messages.AIMessageChunk(content="a", id="lc_run--1"),
    messages.AIMessageChunk(
        content="",
        tool_call_chunks=[{"name": "a", "args": "{", "id": "1", "index": 0, "type": None}],  # type: ignore[typeddict-item]  # as providers send it
        chunk_position="last",
    ),
    messages.AIMessageChunk(content="a") + messages.AIMessageChunk(content="b"),  # type: ignore[list-item]  # the sum is a message
    messages.ToolMessage("3", tool_call_id="c1", artifact={"deep": Decimal("1.5")}),
    messages.ToolMessageChunk(content="3", tool_call_id="c1", status="error"),
    messages.FunctionMessage("f", name="fn"),
    messages.FunctionMessageChunk(content="f", name="fn"),
    messages.ChatMessage("c", role="critic"),
    messages.ChatMessageChunk(content="c", role="critic"),
    messages.RemoveMessage(id="gone"),
    messages.HumanMessage("extra", example=True, whatever={"x": 1}),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_dumps__a_message_as_model_dump_shows_it(message: messages.BaseMessage) -> None:
    shown = orjson.dumps(message.model_dump(), default=str)

    assert dumps(message) == shown


def test_dumps__every_message_class_of_langchain_is_covered() -> None:
    def leaves(cls: type) -> set[type]:
        return {cls}.union(*(leaves(sub) for sub in cls.__subclasses__()))

    ours = {
        cls
        for cls in leaves(messages.BaseMessage)
        if cls.__module__.startswith("langchain_core.messages")
    }

    abstract = {messages.BaseMessage, messages.BaseMessageChunk}
    assert ours - abstract == {type(message) for message in MESSAGES}


def test_dumps__a_subclass_of_a_message_keeps_what_it_hides() -> None:
    from pydantic import Field

    class Mine(messages.AIMessage):
        secret: str = Field(default="s", exclude=True)

    assert "secret" not in json.loads(dumps(Mine("x")))


def test_dumps__a_message_as_the_wire_shows_it() -> None:
    wire = (
        b'{"content":"hello","additional_kwargs":{},"response_metadata":{},"type":"AIMessageChunk",'
        b'"name":null,"id":"lc_run--1","tool_calls":[],"invalid_tool_calls":[],"usage_metadata":null,'
        b'"tool_call_chunks":[],"chunk_position":null}'
    )

    assert dumps(messages.AIMessageChunk(content="hello", id="lc_run--1")) == wire


def test_dumps__an_interrupt() -> None:
    asked = {"__interrupt__": (Interrupt(value={"q": "?"}, id="abc"),)}

    assert dumps(asked) == b'{"__interrupt__":[{"value":{"q":"?"},"id":"abc"}]}'


def test_dumps__an_interrupt_with_a_response_schema() -> None:
    asked = Interrupt(value=1, id="abc", response_schema={"type": "string"})

    assert dumps(asked) == b'{"value":1,"id":"abc","response_schema":{"type":"string"}}'


def test_dumps__an_interrupt_among_values_that_orjson_refuses() -> None:
    asked = [Interrupt(value=2**70, id="abc")]

    assert dumps(asked) == b'[{"value":%d,"id":"abc"}]' % 2**70


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(StrEnum):
    HIGH = "high"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Plain:
    a: int
    b: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    m: messages.HumanMessage


class Model(BaseModel):
    when: date
    secret: SecretStr
    inner: Plain


class Old(BaseModelV1):
    n: int


class Number:
    """What numpy's scalars and arrays look like."""

    dtype = "int64"

    def tolist(self) -> list[int]:
        return [1, 2]


UUID = uuid.UUID("01a202b2-72b9-7280-9250-c0e0b1ab84f1")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Plain(1, [2]), {"a": 1, "b": [2]}),
        (Slotted(messages.HumanMessage("x")).m.content, "x"),
        (Point(1, 2), {"x": 1, "y": 2}),
        (namedtuple("P", "a")(b"x"), {"a": "x"}),  # the untyped kind is the case
        (Model(when=date(2026, 1, 2), secret=SecretStr("s"), inner=Plain(1)), {"when": "2026-01-02", "secret": "**********", "inner": {"a": 1, "b": []}}),
        (Old(n=1), {"n": 1}),
        (Document("d", metadata={"k": 1}), {"id": None, "metadata": {"k": 1}, "page_content": "d", "type": "Document"}),
        ({1}, [1]),
        (frozenset("a"), ["a"]),
        (deque([1, 2]), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (Colour.RED, "red"),
        (Colour.PAIR, [1, 2]),
        (Level.HIGH, "high"),
        ("é".encode(), "é"),
        (b"\xff\xfe", "//4="),
        (bytearray(b"ab"), "ab"),
        (memoryview(b"ab"), "ab"),
        (Decimal("1.10"), "1.10"),
        (Path("a/b"), "a/b"),
        (UUID, str(UUID)),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(1, 2), "01:02:00"),
        (time(1, 2, tzinfo=UTC), "01:02:00+00:00"),
        (timedelta(minutes=1.5), 90.0),
        (ValueError("bad"), "ValueError('bad')"),
        (int, "<class 'int'>"),
        (1 + 2j, "(1+2j)"),
        (Number(), [1, 2]),
        (float("nan"), None),
        (float("-inf"), None),
        (2**64 - 1, 2**64 - 1),
        (2**64, 2**64),
        (-(2**63) - 1, -(2**63) - 1),
        ({1: "a", None: "b", UUID: "d", (1, 2): "e"}, {"1": "a", "null": "b", str(UUID): "d", "(1, 2)": "e"}),
        ({True: 1}, {"true": 1}),
        ({Level.HIGH: 1}, {"high": 1}),
        ({Colour.RED: 2**70}, {"red": 2**70}),
        ("\ud800x", "\ufffdx"),
        ("\ud83d\ude00", "😀"),
        ({"\udfff": "\ud800"}, {"\ufffd": "\ufffd"}),
        ([{2**70}, {"a": (date(2026, 1, 2),)}], [[2**70], {"a": ["2026-01-02"]}]),
    ],
    ids=lambda value: repr(value).split(" at 0x")[0],
)  # fmt: skip
def test_dumps(value: object, shown: object) -> None:
    assert json.loads(dumps(value)) == shown


def test_dumps__an_integer_no_reader_can_hold() -> None:
    assert json.loads(dumps(10**5000)) == hex(10**5000)


def test_dumps__a_cycle() -> None:
    loop: dict[str, Any] = {"a": 1}
    loop["me"] = loop

    assert json.loads(dumps(loop)) == {"a": 1, "me": "{'a': 1, 'me': {...}}"}


def test_dumps__a_cycle_through_objects() -> None:
    plain = Plain(1)
    plain.b = plain  # type: ignore[assignment]  # users do

    assert json.loads(dumps(plain))["a"] == 1


def test_dumps__a_value_that_is_seen_twice_is_no_cycle() -> None:
    shared = {"n": 2**70}

    assert json.loads(dumps([shared, shared])) == [{"n": 2**70}, {"n": 2**70}]


def test_dumps__deeper_than_any_parser_goes() -> None:
    deep: Any = "end"
    for _ in range(5_000):
        deep = [deep]

    assert dumps(deep).startswith(b"[[[[")


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class RudeModel(BaseModel):
    def model_dump(self, **_: Any) -> dict[str, Any]:
        raise RuntimeError("no")


def test_dumps__an_object_that_refuses_to_be_shown() -> None:
    assert json.loads(dumps([Rude(), {"k": RudeModel()}])) == ["<Rude>", {"k": ""}]


def test_dumps__an_object_of_an_unknown_kind_is_cut() -> None:
    class Long:
        def __str__(self) -> str:
            return "x" * 5_000

    assert json.loads(dumps(Long())) == "x" * 1_000


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None))
    | st.binary() | st.dates() | st.datetimes() | st.timedeltas() | st.decimals() | st.uuids() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(st.characters(codec=None)) | st.none(), inner) | st.tuples(inner),
)  # fmt: skip


@given(odd)
def test_dumps__anything_becomes_one_line_of_json(value: object) -> None:
    encoded = dumps(value)

    json.loads(encoded)
    assert b"\n" not in encoded
    assert b"\r" not in encoded


def test_import__brings_no_user_library() -> None:
    code = (
        "import sys, trellis.stream.encoder, trellis.stream.reader, trellis.stream.writer;"
        "sys.exit(any(m.split('.')[0] in ('langgraph', 'langchain_core', 'pydantic') for m in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_compact__leaves_empty_fields_of_messages_out() -> None:
    message = messages.AIMessage("", id="m", tool_calls=[{"name": "t", "args": {}, "id": "c"}])
    call = {"name": "t", "args": {}, "id": "c", "type": "tool_call"}

    encoded = dumps({"messages": [message], "rest": [], "none": None}, compact=True)

    assert orjson.loads(encoded) == {
        "messages": [{"type": "ai", "content": "", "id": "m", "tool_calls": [call]}],
        "rest": [],
        "none": None,
    }


def test_compact__with_keys_that_are_no_text() -> None:
    encoded = dumps({1: messages.HumanMessage("x", id="m")}, compact=True)

    assert orjson.loads(encoded) == {"1": {"type": "human", "content": "x", "id": "m"}}
