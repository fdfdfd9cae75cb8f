"""Tasks to the beginnings and ends of subgraphs, in graphs that run."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from trellis_workers import lifecycle, modes
from trellis_workers.lifecycle import Lifecycle

Shown = list[tuple[str, str]]


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def say(state: State) -> State:
    get_stream_writer()("from below")
    return {"log": ["said"]}


def fail(state: State) -> State:
    raise ValueError("boom")


def ask(state: State) -> State:
    return {"log": [interrupt("?")]}


def graph_of(**nodes: Any) -> Any:
    graph = StateGraph(State).add_sequence(list(nodes.items()))
    return graph.add_edge(START, next(iter(nodes))).compile()


def sync_call(graph: Any, times: int = 1) -> Callable[[State], State]:
    def call(state: State) -> State:
        get_stream_writer()("from above")
        for _ in range(times):
            graph.invoke({"log": []})
        return {}

    return call


def async_call(graph: Any) -> Any:
    async def call(state: State) -> State:
        await graph.ainvoke({"log": []})
        return {}

    return call


async def told(graph: Any, asked: list[str], *, subgraphs: bool) -> Shown:
    graph.checkpointer, graph.stream_eager = InMemorySaver(), True
    config: dict[str, Any] = {"configurable": {"thread_id": "t"}}
    if modes.is_watched(asked, subgraphs=subgraphs):
        config = lifecycle.watched(config)
    translator = modes.Translator(asked, subgraphs=subgraphs)
    native: Any = modes.native_modes(asked, subgraphs=subgraphs)
    shown: Shown = []

    def send(name: str, data: Any) -> None:
        place = "/".join(part.partition(":")[0] for part in name.split("|")[1:])
        is_notice = name.startswith("lifecycle")
        shown.append((data["event"], place) if is_notice else (name.partition("|")[0], data))

    try:
        stream = graph.astream(
            {"log": []}, config, stream_mode=native, subgraphs=subgraphs, durability="sync"
        )
        async for chunk in stream:
            modes.forward(translator.events(*(chunk if subgraphs else ((), *chunk))), send)
        modes.forward(translator.end("completed"), send)
    except ValueError as error:
        modes.forward(translator.end("failed", error), send)
    return shown


GRAPHS = {
    "node": lambda: graph_of(sub=graph_of(say=say)),
    "sync": lambda: graph_of(call=sync_call(graph_of(say=say))),
    "async": lambda: graph_of(call=async_call(graph_of(say=say))),
    "twice": lambda: graph_of(call=sync_call(graph_of(say=say), times=2)),
    "deep": lambda: graph_of(top=graph_of(sub=graph_of(say=say))),
    "fails": lambda: graph_of(sub=graph_of(fail=fail)),
    "asks": lambda: graph_of(sub=graph_of(ask=ask)),
}
EXPECTED = {
    "node": [("started", "sub"), ("completed", "sub")],
    "sync": [("started", "call"), ("completed", "call")],
    "async": [("started", "call"), ("completed", "call")],
    "twice": [
        ("started", "call"),
        ("started", "call/1"),
        ("completed", "call"),
        ("completed", "call/1"),
    ],
    "deep": [
        ("started", "top"),
        ("started", "top/sub"),
        ("completed", "top/sub"),
        ("completed", "top"),
    ],
    "fails": [("started", "sub"), ("failed", "sub")],
    "asks": [("started", "sub"), ("interrupted", "sub")],
}


@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("name", list(GRAPHS))
def test_lifecycle(name: str, subgraphs: bool) -> None:
    shown = asyncio.run(told(GRAPHS[name](), ["lifecycle"], subgraphs=subgraphs))

    assert shown == EXPECTED[name]


def test_watched__subgraphs_do_not_write_for_the_graph() -> None:
    graph = GRAPHS["sync"]()

    shown = asyncio.run(told(graph, ["custom", "lifecycle"], subgraphs=False))

    assert shown == [("custom", "from above"), *EXPECTED["sync"]]


@pytest.mark.parametrize(
    ("given", "call"),
    [
        ({"tool_call": {"id": "c"}}, "c"),
        ([{"id": "c"}], "c"),
        ([{"id": "c"}, {"id": "d"}], None),
        ({"messages": []}, None),
        ({"tool_call": "c"}, None),
        ("c", None),
        (None, None),
    ],
)
def test_lifecycle__tool_call(given: Any, call: str | None) -> None:
    found = Lifecycle()
    [*found.of_task((), {"id": "1", "input": given})]

    [(_, notice)] = found.of_graph(("tools:1",))

    assert notice.get("tool_call_id") == call


def test_lifecycle__of_a_graph_on_another_server() -> None:
    found = Lifecycle()
    [*found.of_graph(("remote:1",))]

    [(_, notice)] = found.of_task((), {"id": "1", "result": {}, "error": "ValueError('boom')"})

    assert notice["event"] == "failed"
    assert notice["error"] == {"error": "RemoteException", "message": "ValueError('boom')"}


def test_of_end__says_why() -> None:
    found = Lifecycle()
    [*found.of_graph(("sub:1",))]

    [(place, notice)] = found.of_end("failed", ValueError("boom"))

    assert (place, notice["event"]) == (("sub:1",), "failed")
    assert notice["error"] == {"error": "ValueError", "message": "boom"}
    assert [*found.of_end("failed")] == []
