"""A graph that puts what it is told into everything that is stored: state, store, a question, an error."""

import operator
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from steps import note, passage


class State(TypedDict, total=False):
    folder: str
    hold: list[str]
    secret: str
    answer: str
    log: Annotated[list[str], operator.add]


async def remember(state: State, runtime: Runtime):
    await runtime.store.aput(("notes",), "last", {"text": state["secret"], "n": 1})
    return {"log": [state["secret"]]}


def ask(state: State):
    return {"answer": interrupt({"about": state["secret"]})}


async def act(state: State):
    note(state, ">act")
    await passage(state, "act")
    if state["answer"] == "fail":
        raise ValueError(f"cannot do {state['secret']}")
    return {"log": [state["answer"]]}


graph = StateGraph(State).add_sequence([remember, ask, act]).add_edge(START, "remember").compile()
