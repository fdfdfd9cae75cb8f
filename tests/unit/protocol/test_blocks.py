"""Messages as content blocks."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.protocol.blocks import Blocks

HERE = ("a:1",)


def chunk(content: Any = "", **more: Any) -> dict[str, Any]:
    return {"type": "AIMessageChunk", "id": "m", "content": content, **more}


def whole(content: Any = "", **more: Any) -> dict[str, Any]:
    return {"type": "ai", "id": "m", "content": content, **more}


def streamed(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = Blocks()
    return [data for each in chunks for data in blocks.of_chunk(HERE, each)]


def started(index: int, /, **content: Any) -> dict[str, Any]:
    return {"event": "content-block-start", "index": index, "content": content}


def finished(index: int, /, **content: Any) -> dict[str, Any]:
    return {"event": "content-block-finish", "index": index, "content": content}


def grown(index: int, kind: str, **more: str) -> dict[str, Any]:
    return {"event": "content-block-delta", "index": index, "delta": {"type": kind, **more}}


START = {"event": "message-start", "role": "ai", "id": "m"}
FINISH = {"event": "message-finish"}


def test_chunks__of_text() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    about = {"model_name": "gpt", "model_provider": "openai"}

    events = streamed(
        chunk("hel", response_metadata=about),
        chunk("lo"),
        chunk("", chunk_position="last", usage_metadata=usage),
    )

    assert events == [
        {**START, "metadata": {"provider": "openai", "model": "gpt"}},
        started(0, type="text", text=""),
        grown(0, "text-delta", text="hel"),
        grown(0, "text-delta", text="lo"),
        finished(0, type="text", text="hello"),
        {**FINISH, "usage": usage, "metadata": about},
    ]


@pytest.mark.parametrize(("name", "field"), [("reasoning", "reasoning"), ("thinking", "thinking")])
def test_chunks__of_reasoning_and_text(name: str, field: str) -> None:
    events = streamed(
        chunk([{"type": name, field: "let", "index": 0}]),
        chunk([{"type": name, field: " me", "index": 0}]),
        chunk([{"type": "text", "text": "ok", "index": 1}], chunk_position="last"),
    )

    assert events == [
        START,
        started(0, type="reasoning", reasoning=""),
        grown(0, "reasoning-delta", reasoning="let"),
        grown(0, "reasoning-delta", reasoning=" me"),
        started(1, type="text", text=""),
        grown(1, "text-delta", text="ok"),
        finished(0, type="reasoning", reasoning="let me", index=0),
        finished(1, type="text", text="ok", index=1),
        FINISH,
    ]


def call(args: str | None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "tool_call_chunk", "args": args, "index": index, "id": None, **more}


def test_chunks__of_tool_calls() -> None:
    events = streamed(
        chunk(tool_call_chunks=[call("", id="c1", name="add")]),
        chunk(
            [{"type": "input_json_delta", "partial_json": '{"a"'}],
            tool_call_chunks=[call('{"a"')],
        ),
        chunk(tool_call_chunks=[call(": 1}"), call("{", 1, id="c2", name="sub")]),
        chunk(chunk_position="last"),
    )

    assert events == [
        START,
        started(0, type="tool_call_chunk", id="c1", name="add", args=""),
        grown(0, "tool-call-delta", args='{"a"'),
        grown(0, "tool-call-delta", args=": 1}"),
        started(1, type="tool_call_chunk", id="c2", name="sub", args=""),
        grown(1, "tool-call-delta", args="{"),
        finished(0, type="tool_call", id="c1", name="add", args={"a": 1}),
        finished(1, type="invalid_tool_call", id="c2", name="sub", args="{", error=None),
        FINISH,
    ]


def test_whole__with_a_tool_call_and_an_image() -> None:
    image = {"type": "image", "url": "http://x"}
    odd = {"type": "odd", "x": 1}
    calls = [{"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}]
    invalid = [{"name": "sub", "args": "{", "id": "c2", "error": "no JSON"}]
    message = whole([image, odd, "text"], tool_calls=calls, invalid_tool_calls=invalid)

    events = streamed(message)

    assert [each["content"] for each in events if each["event"] == "content-block-finish"] == [
        image,
        {"type": "non_standard", "value": odd},
        {"type": "text", "text": "text"},
        calls[0],
        {**invalid[0], "type": "invalid_tool_call"},
    ]
    assert [each["index"] for each in events if each["event"] == "content-block-start"] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert events[0] == START
    assert events[-1] == FINISH


@pytest.mark.parametrize(("kind", "role"), [("human", "human"), ("system", "system")])
def test_whole__of_others(kind: str, role: str) -> None:
    events = streamed({"type": kind, "id": "m", "content": "x"})

    assert events[0]["role"] == role


@pytest.mark.parametrize("kind", ["tool", "remove", "ToolMessageChunk", "chat"])
def test_what_is_no_transcript(kind: str) -> None:
    told = {"type": kind, "id": "m", "content": "x"}
    blocks = Blocks()

    assert streamed(told) == []
    assert list(blocks.of_partial(HERE, told)) == []
    assert list(blocks.of_whole(HERE, told)) == []


def test_messages_that_interleave_keep_their_places() -> None:
    blocks = Blocks()

    for place in (("a",), ("b",)):
        assert [each["event"] for each in blocks.of_chunk(place, chunk("x"))] == [
            "message-start",
            "content-block-start",
            "content-block-delta",
        ]
    assert [each["event"] for each in blocks.of_chunk(("a",), chunk("y"))] == [
        "content-block-delta"
    ]


def test_partial__grows() -> None:
    blocks = Blocks()
    calls = [{"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}]

    events = [
        data
        for told in (whole("he"), whole("hello"), whole("hello", tool_calls=calls))
        for data in blocks.of_partial(HERE, told)
    ]
    ended = [data for _, data in blocks.abandoned()]

    assert events == [
        START,
        started(0, type="text", text=""),
        grown(0, "text-delta", text="he"),
        grown(0, "text-delta", text="llo"),
    ]
    assert ended == [
        started(1, **calls[0]),
        finished(0, type="text", text="hello"),
        finished(1, **calls[0]),
        FINISH,
    ]


def test_partial__the_next_message_ends_the_one_before() -> None:
    blocks = Blocks()
    list(blocks.of_partial(HERE, whole("a")))

    events = list(blocks.of_partial(HERE, {**whole("b"), "id": "n"}))

    assert [each["event"] for each in events][:3] == [
        "content-block-finish",
        "message-finish",
        "message-start",
    ]
    assert list(blocks.of_partial(HERE, whole("ab"))) == []
    ended = list(blocks.of_whole(HERE, {**whole("c"), "id": "o"}))
    assert [each["event"] for each in ended][:3] == [
        "content-block-finish",
        "message-finish",
        "message-start",
    ]


def test_both_modes__a_message_is_told_once() -> None:
    blocks = Blocks()
    list(blocks.of_chunk(HERE, chunk("a")))

    assert list(blocks.of_partial(HERE, whole("a"))) == []
    list(blocks.of_chunk(HERE, {**whole("b"), "id": "n"}))
    assert list(blocks.of_whole(HERE, {**whole("b"), "id": "n"})) == []


def test_abandoned__what_came_as_blocks() -> None:
    blocks = Blocks()
    blocks.saw(HERE, b'{"event":"message-start","role":"ai","id":"m"}')
    blocks.saw(("b",), b'{"event":"message-start","role":"ai","id":"n"}')
    blocks.saw(("b",), b'{"event":"message-finish"}')

    assert list(blocks.abandoned()) == [(HERE, FINISH)]
    assert list(blocks.abandoned()) == []
