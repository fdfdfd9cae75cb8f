"""LangGraph's RemoteGraph on the server: alone, and as a node of a local graph."""

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

Config = dict[str, Any]


@pytest.fixture
def config(thread_id: str) -> Config:
    return {"configurable": {"thread_id": thread_id}}


@pytest.fixture
def remote(sync_client: SyncLangGraphClient, async_client: LangGraphClient) -> Any:
    """Make a RemoteGraph for a graph of the server."""
    return lambda name: RemoteGraph(name, client=async_client, sync_client=sync_client)


def test_invoke(remote: Any, config: Config) -> None:
    assert remote("compiled").invoke({"said": ["hi"]}, config) == {"said": ["hi", "compiled"]}
    assert remote("compiled").invoke({"said": []}) == {"said": ["compiled"]}


def test_ainvoke(remote: Any, config: Config, runner: asyncio.Runner) -> None:
    values = runner.run(remote("compiled").ainvoke({"said": ["hi"]}, config))

    assert values == {"said": ["hi", "compiled"]}


def test_invoke__of_one_that_fails(remote: Any, config: Config) -> None:
    with pytest.raises(RemoteException, match="boom"):
        remote("failing").invoke({}, config)


def test_stream(remote: Any, config: Config) -> None:
    graph = remote("hitl")

    updates = list(graph.stream({"value": "v"}, config, stream_mode="updates"))
    values = list(graph.stream(Command(resume="yes"), config, stream_mode=["values", "updates"]))

    assert updates[0] == {"prepare": {"log": ["prepare"]}}
    assert updates[1]["__interrupt__"][0]["value"]["question"] == "approve?"
    assert values[-1].data["answer"] == "yes"


def test_state(remote: Any, config: Config) -> None:
    graph = remote("hitl")
    graph.invoke({"value": "v"}, config)

    state = graph.get_state(config)
    history = list(graph.get_state_history(config))
    rest = list(graph.get_state_history(config, before=history[0].config, limit=1))
    past = graph.get_state(history[1].config)

    assert (state.next, state.values) == (("ask",), {"value": "v", "log": ["prepare"]})
    assert [snapshot.next for snapshot in history] == [("ask",), ("prepare",), ("__start__",)]
    assert (rest, past) == ([history[1]], history[1])


def test_update_state(remote: Any, config: Config, runner: asyncio.Runner) -> None:
    graph = remote("hitl")
    graph.invoke({"value": "v"}, config)

    made = graph.update_state(config, {"log": ["sync"]})
    forked = runner.run(graph.aupdate_state(made, {"log": ["async"]}, as_node="prepare"))

    assert graph.get_state(config).config == graph.get_state(forked).config
    assert graph.get_state(config).values["log"] == ["prepare", "sync", "async"]


def test_state__of_a_subgraph(remote: Any, config: Config, runner: asyncio.Runner) -> None:
    graph = remote("nested_question")
    graph.invoke({"value": "v"}, config)

    [task] = runner.run(graph.aget_state(config, subgraphs=True)).tasks

    assert task.state.next == ("ask",)


def test_get_graph(remote: Any) -> None:
    assert {"prepare", "ask", "finish"} <= set(remote("hitl").get_graph().nodes)


class Conversation(TypedDict, total=False):
    value: str
    answer: str
    log: Annotated[list[str], operator.add]


def greet(state: Conversation) -> Conversation:
    return {"value": "from here", "log": ["greet"]}


@pytest.fixture
def local(remote: Any) -> Callable[[str], CompiledStateGraph]:
    """Make a local graph with a remote one as its second node."""

    def with_node(name: str) -> CompiledStateGraph:
        graph = StateGraph(Conversation).add_node(greet).add_node("remote", remote(name))
        graph.add_edge(START, "greet").add_edge("greet", "remote")
        return graph.compile(checkpointer=InMemorySaver())

    return with_node


def test_subgraph(local: Any, config: Config) -> None:
    values = local("steps").invoke({}, config)

    assert values == {"value": "from here", "log": ["greet", "greet", "one", "two", "three"]}


def test_subgraph__asks(local: Any, remote: Any, config: Config) -> None:
    """The question stops the local graph; it is answered where it was asked."""
    graph = local("hitl")

    [question] = graph.invoke({}, config)["__interrupt__"]
    answered = remote("hitl").invoke(Command(resume={question.id: "yes"}), config)

    assert question.value == {"question": "approve?", "value": "from here"}
    assert graph.get_state(config).next == ("remote",)
    assert answered["answer"] == "yes"


def test_subgraph__streams_into_the_local_graph(local: Any, config: Config) -> None:
    chunks = list(local("hitl").stream({}, config, stream_mode="updates", subgraphs=True))

    inner = [update for namespace, update in chunks if namespace and "prepare" in update]
    assert inner == [{"prepare": {"log": ["prepare"]}}]


def take(state: Conversation) -> Conversation:
    return {"log": ["taken"]}


def test_subgraph__hands_over_to_the_graph_above(remote: Any, config: Config) -> None:
    inner = StateGraph(Conversation).add_node("remote", remote("handing"))
    outer = StateGraph(Conversation).add_node("taken", take)
    outer.add_node("inner", inner.add_edge(START, "remote").compile()).add_edge(START, "inner")

    values = outer.compile(checkpointer=InMemorySaver()).invoke({"log": []}, config)

    assert values == {"log": ["handed", "taken"]}
