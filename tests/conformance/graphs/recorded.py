"""Graphs with the names, nodes and states of those that the recorded requests were sent to."""

import asyncio
import operator
from typing import Annotated, Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from typing_extensions import TypedDict


async def answer(messages: Any):
    model = GenericFakeChatModel(messages=iter([AIMessage("hello there my friend")]))
    return await model.ainvoke(messages)


# Chat


class Model(TypedDict, total=False):
    model: str
    temperature: float


async def reply(state: MessagesState, runtime: Runtime[Model]):
    get_stream_writer()({"progress": "starting", "ctx": runtime.context or {}})
    return {"messages": [await answer(state["messages"])]}


echo = (
    StateGraph(MessagesState, context_schema=Model)
    .add_node("model", reply)
    .add_edge(START, "model")
    .compile()
)


def factory(config):
    return echo


def say(state: MessagesState):
    return {"messages": [AIMessage("not streamed", id="m-1")]}


nost = StateGraph(MessagesState).add_node("m", say).add_edge(START, "m").compile()


@tool
def adder(a: int, b: int) -> int:
    """Add."""
    return a + b


CALL = {"name": "adder", "args": {"a": 1, "b": 2}, "id": "tc1"}


def decide(state: MessagesState):
    is_answered = state["messages"][-1].type == "tool"
    return {"messages": [AIMessage("done") if is_answered else AIMessage("", tool_calls=[CALL])]}


tl = (
    StateGraph(MessagesState)
    .add_node("ai", decide)
    .add_node("tools", ToolNode([adder]))
    .add_edge(START, "ai")
    .add_conditional_edges(
        "ai", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END]
    )
    .add_edge("tools", "ai")
    .compile()
)


# Steps


class Slow(TypedDict, total=False):
    n: int
    delay: float
    log: Annotated[list, operator.add]


def pausing(word: str, note: str):
    async def pause(state: Slow):
        write = get_stream_writer()
        for index in range(state["n"]):
            write({word: index})
            await asyncio.sleep(state["delay"])
        return {"log": [note]}

    return pause


slow = (
    StateGraph(Slow)
    .add_node("one", pausing("tick", "s1"))
    .add_node("two", pausing("tock", "s2"))
    .add_edge(START, "one")
    .add_edge("one", "two")
    .compile()
)


class Failing(TypedDict, total=False):
    x: Any
    log: Annotated[list, operator.add]


def boom(state: Failing):
    raise ValueError("boom happened")


err = (
    StateGraph(Failing)
    .add_node("ok", lambda state: {"log": ["ok"]})
    .add_node("boom", boom)
    .add_edge(START, "ok")
    .add_edge("ok", "boom")
    .compile()
)


@task
def tk(x: int):
    return x + 1


@entrypoint()
def func(given: dict):
    return {"out": tk(given["x"]).result()}


# Questions


class Question(TypedDict, total=False):
    value: str
    answer: Any
    log: Annotated[list, operator.add]


def ask(state: Question):
    return {
        "answer": interrupt({"question": "approve?", "value": state.get("value")}),
        "log": ["asked"],
    }


hitl = (
    StateGraph(Question)
    .add_node("prep", lambda state: {"log": ["prep"]})
    .add_node("ask", ask)
    .add_node("fin", lambda state: {"log": ["fin"]})
    .add_edge(START, "prep")
    .add_edge("prep", "ask")
    .add_edge("ask", "fin")
    .compile()
)


# Subgraphs


class Family(TypedDict, total=False):
    foo: str
    messages: Annotated[list, operator.add]


async def work(state: Family):
    get_stream_writer()({"from": "child"})
    await answer("hi")
    return {"foo": state["foo"] + "+child"}


def child_ask(state: Family):
    return {"foo": state["foo"] + "+" + interrupt({"q": "child?"})}


def parent_of(child):
    return (
        StateGraph(Family)
        .add_node("parent_node", lambda state: {"foo": state["foo"] + "+parent"})
        .add_node("child", child)
        .add_edge(START, "parent_node")
        .add_edge("parent_node", "child")
        .compile()
    )


sub = parent_of(
    StateGraph(Family).add_node("child_node", work).add_edge(START, "child_node").compile()
)
subhitl = parent_of(
    StateGraph(Family).add_node("child_ask", child_ask).add_edge(START, "child_ask").compile()
)
