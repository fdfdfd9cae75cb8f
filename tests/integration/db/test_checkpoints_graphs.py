"""Graphs of every kind on the saver: what they remember is what LangGraph's own in-memory saver remembers."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from sqlalchemy import Engine

from trellis.db.checkpoints import Cache, Contents, DirectBackend
from trellis.db.checkpoints.contents import equipped
from trellis.db.checkpoints.own import OwnSaver
from trellis.db.checkpoints.saver import Saver
from trellis.db.serde import serializer
from trellis.domain.ids import new_id
from trellis.errors import CheckpointerFailed, Invalid

NewSaver = Callable[[], Saver]


@pytest.fixture(params=["ours", "own"])
def new_saver(
    request: pytest.FixtureRequest, engine: Engine, loop: asyncio.AbstractEventLoop
) -> Iterator[NewSaver]:
    """Each call is a run of the same process; "own": the operator's own checkpointer has the values."""
    cache, serde = Cache(), serializer()
    contents = Contents() if request.param == "own" else None
    with closing(DirectBackend(equipped(engine, contents))) as backend:
        if contents is None:
            yield lambda: Saver(backend, serde=serde, cache=cache)
        else:
            contents.open(InMemorySaver(), loop)
            yield lambda: OwnSaver(backend, contents=contents, serde=serde, cache=cache)


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


class State(Log):
    total: int


def of(thread_id: str, **more: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **more}}


def with_saver(graph: Any, saver: Any) -> Any:
    return graph.copy({"checkpointer": saver})


def chat() -> Any:
    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"answer {len(state['messages'])} " * 20)]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()


def approval() -> Any:
    def ask(state: State) -> dict[str, Any]:
        first = interrupt({"question": 1})
        second = interrupt({"question": 2})
        return {"log": [first, second]}

    return StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile()


def fan_out() -> Any:
    """Parallel nodes, each calling a subgraph, gathered again."""

    def step(state: State) -> dict[str, Any]:
        return {"log": [f"sub {state['total']}"]}

    sub = (
        StateGraph(State, output_schema=Log)
        .add_node("step", step)
        .add_edge(START, "step")
        .compile()
    )

    def route(state: State) -> list[Send]:
        return [Send("sub", {"log": [], "total": n}) for n in range(4)]

    def gather(state: State) -> dict[str, Any]:
        return {"total": len(state["log"])}

    graph = (
        StateGraph(State)
        .add_node("split", lambda _: {})
        .add_node("sub", sub)
        .add_node("gather", gather)
    )
    graph.add_edge(START, "split").add_conditional_edges("split", route, ["sub"]).add_edge(
        "sub", "gather"
    )
    return graph.compile()


def test_conversation__goes_on_in_each_run(new_saver: NewSaver) -> None:
    thread = of(new_id())

    async def talk() -> list[Any]:
        for n in range(40):
            graph = with_saver(chat(), new_saver())
            result = await graph.ainvoke({"messages": [HumanMessage(f"question {n}")]}, thread)
        return result["messages"]

    messages = asyncio.run(talk())
    assert [m.type for m in messages] == ["human", "ai"] * 40
    assert [m.content for m in messages[::2]] == [f"question {n}" for n in range(40)]
    found = new_saver().get_tuple(thread)
    assert found is not None
    assert found.checkpoint["channel_values"]["messages"] == messages


def test_sync_graph__runs_on_the_same_saver(new_saver: NewSaver) -> None:
    thread = of(new_id())
    graph = with_saver(fan_out(), new_saver())
    assert graph.invoke({"log": [], "total": 9}, thread)["total"] == 4
    assert with_saver(fan_out(), new_saver()).get_state(thread).values["total"] == 4


def test_parallel_subgraphs__have_namespaces_of_their_own(
    new_saver: NewSaver, backend: DirectBackend
) -> None:
    thread_id = new_id()
    asyncio.run(with_saver(fan_out(), new_saver()).ainvoke({"log": [], "total": 0}, of(thread_id)))
    namespaces = {
        found.config["configurable"]["checkpoint_ns"] for found in new_saver().list(of(thread_id))
    }
    assert "" in namespaces
    assert sum(ns.startswith("sub:") for ns in namespaces) == 4


def test_interrupted_run__is_resumed_by_another_process(backend: DirectBackend) -> None:
    thread = of(new_id())

    def process() -> Any:
        return with_saver(approval(), Saver(backend, serde=serializer()))

    asked = process().invoke({"log": [], "total": 0}, thread)
    assert asked["__interrupt__"][0].value == {"question": 1}
    asked = process().invoke(Command(resume="yes"), thread)
    assert asked["__interrupt__"][0].value == {"question": 2}
    assert process().invoke(Command(resume="no"), thread)["log"] == ["yes", "no"]
    assert process().get_state(thread).next == ()


def test_failed_node__does_not_make_its_neighbours_run_again(new_saver: NewSaver) -> None:
    ran: list[str] = []
    broken = [True]

    def good(_: State) -> dict[str, Any]:
        ran.append("good")
        return {"log": ["good"]}

    def bad(_: State) -> dict[str, Any]:
        ran.append("bad")
        if broken:
            raise ValueError("broken")
        return {"log": ["bad"]}

    graph = StateGraph(State).add_node("good", good).add_node("bad", bad)
    graph.add_edge(START, "good").add_edge(START, "bad")
    compiled, thread = with_saver(graph.compile(), new_saver()), of(new_id())
    with pytest.raises(ValueError, match="broken"):
        compiled.invoke({"log": [], "total": 0}, thread)
    broken.clear()
    again = with_saver(graph.compile(), new_saver())
    assert sorted(again.invoke(None, thread)["log"]) == ["bad", "good"]
    assert sorted(ran) == ["bad", "bad", "good"]


def test_fork__leaves_the_other_branch_alone(new_saver: NewSaver) -> None:
    thread_id = new_id()
    graph = with_saver(chat(), new_saver())

    async def run() -> None:
        for n in range(12):
            await graph.ainvoke({"messages": [HumanMessage(f"question {n}")]}, of(thread_id))
        states = [state async for state in graph.aget_state_history(of(thread_id))]
        early = next(s for s in states if len(s.values.get("messages", [])) == 10 and not s.next)
        latest = states[0].values["messages"]
        forked = with_saver(chat(), new_saver())
        branch = await forked.ainvoke({"messages": [HumanMessage("instead")]}, early.config)
        assert [m.content for m in branch["messages"][:11]] == [
            *(m.content for m in latest[:10]),
            "instead",
        ]
        again = await with_saver(chat(), new_saver()).aget_state(states[0].config)
        assert again.values["messages"] == latest

    asyncio.run(run())


def test_message_changed_in_place__is_remembered(new_saver: NewSaver) -> None:
    def tidy(state: MessagesState) -> dict[str, Any]:
        state["messages"][0].content = f"changed at {len(state['messages'])}"
        return {"messages": [AIMessage("x" * 300)]}

    graph = StateGraph(MessagesState).add_node("tidy", tidy).add_edge(START, "tidy").compile()
    thread = of(new_id())
    for n in range(15):
        with_saver(graph, new_saver()).invoke({"messages": [HumanMessage("y" * 300)]}, thread)
        found = with_saver(graph, new_saver()).get_state(thread).values["messages"]
        assert found[0].content == f"changed at {2 * n + 1}"


def test_message_changed_and_not_returned__does_not_reach_the_next_run(new_saver: NewSaver) -> None:
    def spoil(state: MessagesState) -> dict[str, Any]:
        state["messages"][0].content = "spoilt"
        state["messages"].clear()
        return {}

    thread = of(new_id())
    asyncio.run(
        with_saver(chat(), new_saver()).ainvoke({"messages": [HumanMessage("y" * 3000)]}, thread)
    )
    read = new_saver().get_tuple(thread)
    assert read is not None
    spoil(read.checkpoint["channel_values"])  # type: ignore[arg-type]
    again = new_saver().get_tuple(thread)
    assert again is not None
    assert again.checkpoint["channel_values"]["messages"][0].content == "y" * 3000


def test_state_update__counts_as_a_checkpoint(new_saver: NewSaver) -> None:
    thread = of(new_id())
    graph = with_saver(chat(), new_saver())
    graph.update_state(thread, {"messages": [HumanMessage("by hand")]})
    assert graph.get_state(thread).next == ("answer",)
    result = asyncio.run(with_saver(chat(), new_saver()).ainvoke(None, thread))
    assert [m.type for m in result["messages"]] == ["human", "ai"]


def test_functional_api__remembers_tasks_and_the_previous_result(new_saver: NewSaver) -> None:
    ran: list[int] = []

    @task
    def work(n: int) -> int:
        ran.append(n)
        return n * 2

    @entrypoint(checkpointer=InMemorySaver())
    def flow(n: int, *, previous: int | None = None) -> int:
        done = work(n).result()
        return interrupt("go on?") + done + (previous or 0)

    thread = of(new_id())
    flow.checkpointer = new_saver()
    flow.invoke(1, thread)
    flow.checkpointer = new_saver()
    assert flow.invoke(Command(resume=100), thread) == 102
    assert ran == [1]
    flow.invoke(1, thread)
    assert flow.invoke(Command(resume=0), thread) == 104


def appended(state: list[str], writes: list[list[str]]) -> list[str]:
    return [*state, *(text for write in writes for text in write)]


class DeltaState(TypedDict):
    items: Annotated[list[str], DeltaChannel(appended, snapshot_frequency=5)]


def delta() -> Any:
    def add(state: DeltaState) -> dict[str, Any]:
        return {"items": [f"node {len(state['items'])}"]}

    return StateGraph(DeltaState).add_node("add", add).add_edge(START, "add").compile()


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_delta_channel__is_rebuilt_from_writes(new_saver: NewSaver, durability: str) -> None:
    """The same turns on LangGraph's saver give the same states, after pruning too."""
    thread, memory = of(new_id()), InMemorySaver()
    for n in range(9):
        turn = {"items": [f"turn {n}"]}
        ours = with_saver(delta(), new_saver()).invoke(turn, thread, durability=durability)
        theirs = with_saver(delta(), memory).invoke(turn, thread, durability=durability)
        assert ours == theirs
        if n == 6:
            new_saver().prune([thread["configurable"]["thread_id"]])
            assert with_saver(delta(), new_saver()).get_state(thread).values == theirs
    history = [s.values for s in with_saver(delta(), memory).get_state_history(thread)]
    found = [s.values for s in with_saver(delta(), new_saver()).get_state_history(thread)]
    assert found == history[: len(found)]
    assert len(found) > 1


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_delta_channel_history__is_that_of_the_slow_walk(new_saver: NewSaver) -> None:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    thread = of(new_id())
    for n in range(7):
        with_saver(delta(), new_saver()).invoke({"items": [f"turn {n}"]}, thread)
    for found in new_saver().list(thread):
        slow = BaseCheckpointSaver.get_delta_channel_history(
            new_saver(), config=found.config, channels=["items", "nothing"]
        )
        fast = new_saver().get_delta_channel_history(
            config=found.config, channels=["items", "nothing"]
        )
        assert fast == slow
        async_fast = new_saver().aget_delta_channel_history(
            config=found.config, channels=["items", "nothing"]
        )
        assert asyncio.run(async_fast) == slow


@pytest.mark.parametrize("thread_id", ["thread-1", "", "..%2f", 5])
def test_thread_that_is_no_uuid__is_refused(new_saver: NewSaver, thread_id: Any) -> None:
    with pytest.raises(Invalid, match="thread_id must be a UUID"):
        new_saver().get_tuple(of(thread_id))
    with pytest.raises(Invalid, match="thread_id must be a UUID"):
        list(new_saver().list(of(thread_id)))


def test_value_that_cannot_be_stored__fails_its_run_only(new_saver: NewSaver) -> None:
    class Holder(TypedDict):
        socket: Any

    graph = (
        StateGraph(Holder)
        .add_node("n", lambda _: {"socket": object()})
        .add_edge(START, "n")
        .compile()
    )
    with pytest.raises((TypeError, CheckpointerFailed), match="serializable"):
        with_saver(graph, new_saver()).invoke({"socket": None}, of(new_id()))
    assert (
        with_saver(fan_out(), new_saver()).invoke({"log": [], "total": 0}, of(new_id()))["total"]
        == 4
    )


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_metadata_that_jsonb_refuses__is_stored_all_the_same(
    new_saver: NewSaver, text: str
) -> None:
    thread = of(new_id())
    config: RunnableConfig = {**thread, "metadata": {"note": text, "deep": {"er": [text]}}}
    asyncio.run(with_saver(chat(), new_saver()).ainvoke({"messages": [HumanMessage(text)]}, config))
    found = new_saver().get_tuple(thread)
    assert found is not None
    assert found.metadata["source"] == "loop"
