"""What may be rebuilt from a row, and what stays plain data."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import pickle
from collections import deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core import messages
from langchain_core.documents import Document
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel

from trellis.db import serde as serde_module
from trellis.db.serde import fingerprint, serializer
from trellis.errors import TrellisError


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


class Model(BaseModel):
    name: str
    inner: dict[str, Any] = {}


OURS = (Colour, Point, Model)

SAFE = [
    UUID(int=5),
    Decimal("1.50"),
    {1, 2},
    frozenset({3}),
    deque([1, 2]),
    datetime(2026, 1, 2, tzinfo=UTC),
    date(2026, 1, 2),
    time(1, 2, tzinfo=UTC),
    timedelta(days=1, seconds=2),
    UTC,
    ZoneInfo("Europe/Zurich"),
    Path("/a/b"),
    ip_address("10.0.0.1"),
    Send("node", {"a": [messages.HumanMessage("x")]}),
    Interrupt(value={"q": 1}, id="i"),
    Command(update={"a": 1}, goto="b"),
    Document(page_content="p", metadata={"k": 1}),
    _DeltaSnapshot([messages.HumanMessage("x")]),
    {1: "one", None: 2, (1, 2): 3},
    b"raw",
    None,
]

MESSAGES = [
    messages.HumanMessage("hi", id="1", name="n", additional_kwargs={"a": {"b": [1]}}),
    messages.HumanMessage([{"type": "text", "text": "t"}, "more"]),
    messages.HumanMessage("with an extra field", colour="blue"),
    messages.AIMessage(
        "a", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    ),
    messages.AIMessage(
        "", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c", "type": "tool_call"}]
    ),
    messages.AIMessage(
        "",
        additional_kwargs={
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{bad"}}]
        },
    ),
    messages.AIMessageChunk(
        "",
        tool_call_chunks=[
            {"name": "f", "args": '{"x"', "id": "c", "index": 0, "type": "tool_call_chunk"}
        ],
    ),
    messages.SystemMessage("s"),
    messages.ToolMessage("t", tool_call_id="c", artifact={"k": [1]}, status="error"),
    messages.ChatMessage("c", role="critic"),
    messages.FunctionMessage("f", name="f"),
    messages.RemoveMessage(id="1"),
]


def round_trip(value: Any, *types: type) -> Any:
    serde = serializer(types)
    return serde.loads_typed(serde.dumps_typed(value))


def ext(code: int, *content: Any) -> bytes:
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(content)))


@pytest.mark.parametrize(
    "value", [*SAFE, Colour.RED, Point(1, {2}), Model(name="n", inner={"a": 1})]
)
def test_allowed_types__come_back_as_they_were(value: Any) -> None:
    found = round_trip(value, *OURS)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message__is_rebuilt_without_validation_as_with_it(message: messages.BaseMessage) -> None:
    found = round_trip(message)
    langgraphs = JsonPlusSerializer(allowed_msgpack_modules=None)
    validated = langgraphs.loads_typed(langgraphs.dumps_typed(message))
    assert found == validated == message
    assert list(found.__dict__.items()) == list(validated.__dict__.items())
    assert found.__pydantic_fields_set__ == validated.__pydantic_fields_set__
    assert found.__pydantic_extra__ == validated.__pydantic_extra__
    assert found.__pydantic_private__ == validated.__pydantic_private__
    assert found.model_dump_json() == validated.model_dump_json()
    assert found.model_copy(update={"content": "other"}).content == "other"


def test_every_message_class_of_langchain__is_rebuilt_without_validation() -> None:
    plain = serde_module._plain_messages()
    assert {type(message) for message in MESSAGES} <= plain.keys()


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Model(name="n"), {"name": "n", "inner": {}}),
        ([Point(1, Colour.RED)], [{"x": 1, "y": "red"}]),
    ],
)
def test_type_that_no_schema_names__stays_plain_data(value: Any, plain: Any) -> None:
    assert round_trip(value) == plain


def test_type_that_no_schema_names__is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    lonely = dataclasses.make_dataclass("Lonely", ["x"])
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            assert round_trip(lonely(n)) == {"x": n}
    assert [record.getMessage().count("Lonely") for record in caplog.records] == [1]


def test_class_made_in_a_function__comes_back_without_an_import() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    assert round_trip(Local(3), Local) == Local(3)


def test_object_that_its_class_refuses__stays_plain_data() -> None:
    class Picky(BaseModel):
        x: int

    stored = serializer().dumps_typed(Picky(x=1))

    @dataclasses.dataclass
    class Changed:
        y: int

    Changed.__name__, Changed.__module__ = "Picky", Picky.__module__
    assert serializer([Changed]).loads_typed(stored) == {"x": 1}


def test_value_that_cannot_be_stored__raises() -> None:
    with pytest.raises(TypeError, match="serializable"):
        serializer().dumps_typed({"socket": object()})


def test_exceptions__are_stored_as_text() -> None:
    assert round_trip(ValueError("no")) == "ValueError('no')"


@pytest.mark.parametrize(
    ("kind", "data"),
    [("pickle", pickle.dumps(1)), ("msgpack+aes", b"x"), ("", b""), ("msgpack", b"\xc1")],
)
def test_row_that_we_did_not_write__is_refused(kind: str, data: bytes) -> None:
    with pytest.raises(TrellisError):
        serializer().loads_typed((kind, data))


def test_unknown_extension__is_refused() -> None:
    with pytest.raises(TrellisError):
        serializer().loads_typed(("msgpack", ext(99, "os", "getcwd", [])))


def test_langgraphs_own_allow_list__adds_classes_that_are_loaded() -> None:
    serde = serializer()
    stored = serde.dumps_typed(Point(1))
    wider = serde.with_msgpack_allowlist([(Point.__module__, "Point"), ("no.such.module", "X")])  # type: ignore[attr-defined]
    assert serde.loads_typed(stored) == {"x": 1, "y": None}
    assert wider.loads_typed(stored) == Point(1)
    assert wider.with_msgpack_allowlist([Point]) is wider


def test_allow_list__lets_nothing_be_called_but_its_types() -> None:
    table = serializer()._types  # type: ignore[attr-defined]
    functions = {name for name, entry in table.items() if not inspect.isclass(entry)}
    assert functions == {("re", "compile")}


elements = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
        | st.builds(
            messages.HumanMessage,
            content=st.text(),
            additional_kwargs=st.dictionaries(st.text(), inner),
        )
        | st.builds(Point, x=st.integers(0, 9), y=inner)
    ),
    max_leaves=6,
)


@given(st.lists(elements, max_size=40), st.lists(elements, max_size=40))
def test_fingerprint__of_parts_adds_up(first: list[Any], second: list[Any]) -> None:
    serde = serializer(OURS)
    parts = fingerprint(first, serde=serde) + fingerprint(second, serde=serde)
    assert parts == fingerprint(first + second, serde=serde)


@given(st.lists(elements, max_size=20), st.lists(elements, max_size=20))
def test_fingerprint__differs_whenever_what_is_stored_does(
    first: list[Any], second: list[Any]
) -> None:
    serde = serializer(OURS)
    if serde.dumps_typed(first) != serde.dumps_typed(second):
        assert fingerprint(first, serde=serde) != fingerprint(second, serde=serde)


def _rename(message: messages.AIMessage) -> None:
    message.name = "other"


def _deepen(message: messages.AIMessage) -> None:
    message.additional_kwargs["deep"]["er"].append(1)


def _extend(message: messages.AIMessage) -> None:
    message.__pydantic_extra__["new"] = 1  # type: ignore[index]


def _call(message: messages.AIMessage) -> None:
    message.tool_calls[0]["args"]["x"] = 2


@pytest.mark.parametrize("change", [_rename, _deepen, _extend, _call])
def test_fingerprint__sees_a_change_in_place(change: Callable[[messages.AIMessage], None]) -> None:
    message = messages.AIMessage(
        "a",
        additional_kwargs={"deep": {"er": []}},
        tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c", "type": "tool_call"}],
    )
    before = fingerprint([message], serde=serializer())
    change(message)
    assert fingerprint([message], serde=serializer()) != before


@pytest.mark.parametrize("length", [0, 15, 16, 65535, 65536])
def test_fingerprint__of_any_length_has_no_header(length: int) -> None:
    assert fingerprint([1] * length, serde=serializer()) == b"\x01" * length
