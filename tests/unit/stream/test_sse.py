from __future__ import annotations

import pytest

from trellis.stream import sse


def test_event__bytes_as_the_wire_shows_them() -> None:
    raw = b'event: values\r\ndata: {"n":1}\r\nid: 1795342961164-0\r\n\r\n'

    assert sse.event("values", b'{"n":1}', b"1795342961164-0") == raw


def test_event__without_an_id() -> None:
    assert sse.event("metadata", b"{}") == b"event: metadata\r\ndata: {}\r\n\r\n"


def test_heartbeat__is_a_comment() -> None:
    assert sse.HEARTBEAT == b": heartbeat\r\n\r\n"


@pytest.mark.parametrize("line_break", ["\r", "\n", "\r\n"])
def test_frame__a_node_name_opens_no_field(line_break: str) -> None:
    framed = sse.frame(f"values|node{line_break}data: forged", b"{}")

    assert framed.count(b"\r\n") == 2
    assert framed.startswith(b"event: values|node")
    assert framed.endswith(b"\r\ndata: {}\r\n")


def test_frame__data_opens_no_field() -> None:
    framed = sse.frame("custom", b'{\n"a":\r\n1}\nevent: end')

    assert framed == b'event: custom\r\ndata: { "a":  1} event: end\r\n'


def test_frame__a_name_that_is_no_text() -> None:
    assert sse.frame("\ud800", b"1") == b"event: ?\r\ndata: 1\r\n"


@pytest.mark.parametrize(
    ("header", "after"),
    [
        ("-1", "0"),
        ("0", "0"),
        ("1795342961164-0", "1795342961164-0"),
        ("1795342961164", "1795342961164"),
        ("", None),
        ("-2", None),
        ("garbage", None),
        ("1-2-3", None),
        ("\u0661-0", None),
        ("1-0\r\n", None),
        (f"{2**64}-0", None),
        (f"1-{2**64}", None),
    ],
)
def test_cursor(header: str, after: str | None) -> None:
    assert sse.cursor(header) == after
