"""What protocol v2 asks of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.graph import START, StateGraph
from langgraph.stream import ProtocolEvent, StreamChannel, StreamTransformer
from pydantic import BaseModel
from typing_extensions import TypedDict

from trellis_workers import protocol

CHECKPOINT = {
    "config": {"configurable": {"checkpoint_id": "c"}},
    "parent_config": None,
    "metadata": {"step": 1, "source": "loop"},
    "values": {"heavy": 1},
}


class State(TypedDict, total=False):
    word: str


class Words(StreamTransformer):
    """Says each state's word on a channel of its own, hides updates, and changes tasks."""

    required_stream_modes = ("values", "debug")

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self.words: StreamChannel[Any] = StreamChannel("words")

    def init(self) -> dict[str, Any]:
        return {"words": self.words}

    def process(self, event: ProtocolEvent) -> bool:
        if event["method"] == "values":
            self.words.push(event["params"]["data"]["word"])
        if event["method"] == "tasks":
            event["params"]["data"] = "changed"
        return event["method"] != "updates"

    def finalize(self) -> None:
        self.words.push("end")

    def fail(self, err: BaseException) -> None:
        self.words.push(f"failed: {err}")


def graph(*transformers: Any) -> Any:
    made = StateGraph(State).add_node("n", lambda state: {}).add_edge(START, "n")
    return made.compile(transformers=transformers)


def part(mode: str, data: Any, *namespace: str, **more: Any) -> dict[str, Any]:
    if mode == "values":
        more.setdefault("interrupts", ())
    return {"type": mode, "ns": namespace, "data": data, **more}


def read(*parts: Any, transformers: tuple[Any, ...] = ()) -> list[Any]:
    """What becomes of parts. One that is an exception is raised, and told as itself."""

    async def source() -> AsyncIterator[Any]:
        for each in parts:
            if isinstance(each, Exception):
                raise each
            yield each

    async def collect() -> list[Any]:
        found: list[Any] = []
        stream = protocol.chunks(source(), protocol.Extensions(graph(*transformers)))
        try:
            while (chunk := await anext(stream, None)) is not None:
                found.append(chunk)
        except ValueError as error:
            found.append(error)
        return found

    return asyncio.run(collect())


def modes(chunks: list[Any]) -> list[str]:
    return [mode for _, mode, _ in chunks]


def test_chunks__a_checkpoint_comes_before_its_state() -> None:
    chunks = read(
        part("checkpoints", CHECKPOINT),
        part("values", {"a": 1}),
        part("checkpoints", CHECKPOINT),
        part("tasks", {}),
        part("values", {"a": 2}),
        part("checkpoints", CHECKPOINT),
    )

    assert modes(chunks) == [
        *["checkpoints"] * 2,
        "values",
        "tasks",
        "checkpoints",
        "values",
    ]
    assert "values" not in chunks[0][2]


def test_chunks__a_state_without_a_checkpoint_waits_for_nothing_but_the_next_part() -> None:
    chunks = read(
        part("values", {"a": 1}),
        part("values", {"a": 2}),
        part("tasks", {}),
        part("values", {"a": 3}),
    )

    assert [data for _, mode, data in chunks if mode == "values"] == [{"a": n} for n in (1, 2, 3)]
    assert modes(chunks) == ["values", "values", "tasks", "values"]


def test_chunks__those_of_subgraphs_pass() -> None:
    chunks = read(part("values", {"a": 1}, "c:1"), part("checkpoints", CHECKPOINT, "c:1"))

    assert modes(chunks) == ["values", "checkpoints"]


def test_chunks__a_failure_comes_after_the_state_before_it() -> None:
    error = ValueError("boom")

    assert read(part("values", {"a": 1}), error) == [((), "values", {"a": 1}), error]


def test_chunks__questions_stand_in_the_state() -> None:
    [chunk] = read(part("values", {"a": 1}, interrupts=("q",)))

    assert chunk == ((), "values", {"a": 1, "__interrupt__": ("q",)})


class Model(BaseModel):
    a: int = 0
    inner: Any = None


@dataclass
class Data:
    a: int = 0
    inner: Any = None


@pytest.mark.parametrize("kind", [Model, Data])
def test_chunks__a_state_is_a_mapping(kind: Any) -> None:
    inner = HumanMessage("x")

    [(_, _, state)] = read(part("values", kind(a=1, inner=inner)))

    assert state == {"a": 1, "inner": inner}
    assert state["inner"] is inner


def test_extensions() -> None:
    assert protocol.Extensions(graph()).modes == []
    assert protocol.Extensions(graph(Words)).modes == ["values", "debug"]

    chunks = read(
        part("values", {"word": "a"}),
        part("checkpoints", CHECKPOINT),
        part("updates", {"n": 1}),
        part("tasks", {}),
        transformers=(Words,),
    )

    named = "custom", {"name": "words", "payload": "a"}
    assert [(mode, data) for _, mode, data in chunks if mode == "custom"] == [
        named,
        ("custom", {"name": "words", "payload": "end"}),
    ]
    assert modes(chunks) == ["custom", "checkpoints", "values", "tasks", "custom"]
    assert chunks[3] == ((), "tasks", "changed")


def test_extensions__hear_of_a_failure() -> None:
    chunks = read(ValueError("boom"), transformers=(Words,))

    assert chunks[0] == ((), "custom", {"name": "words", "payload": "failed: boom"})


def test_blocks__an_event_passes() -> None:
    assert list(protocol.blocks({"event": "message-finish"})) == [{"event": "message-finish"}]


@pytest.mark.parametrize(
    ("message", "role"),
    [
        (AIMessage("x", id="m"), "ai"),
        (AIMessageChunk("x", id="m"), "ai"),
        (HumanMessage("x", id="m"), "human"),
        (SystemMessage("x", id="m"), "system"),
    ],
    ids=["ai", "chunk", "human", "system"],
)
def test_blocks__of_a_whole_message(message: Any, role: str) -> None:
    events = list(protocol.blocks(message))

    assert events[0] == {"event": "message-start", "role": role, "id": "m"}
    assert [each["event"] for each in events[1:]] == [
        "content-block-start",
        "content-block-delta",
        "content-block-finish",
        "message-finish",
    ]


@pytest.mark.parametrize(
    "message",
    [ToolMessage("x", tool_call_id="c"), RemoveMessage("m")],
    ids=["tool", "remove"],
)
def test_blocks__of_what_is_no_transcript(message: Any) -> None:
    assert list(protocol.blocks(message)) == []
