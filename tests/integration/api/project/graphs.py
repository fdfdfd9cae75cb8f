"""Graphs whose states the tests of the API read."""

import operator
from typing import Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    value: str
    log: Annotated[list[str], operator.add]


def shout(state: State) -> State:
    if state["value"] == "fail":
        raise ValueError("boom happened")
    return {"log": [state["value"].upper()]}


def ask(state: State) -> State:
    return {"log": [interrupt({"question": "approve?", "value": state["value"]})]}


def line(**nodes: Any) -> StateGraph[State]:
    """A graph that runs its nodes one after the other."""
    graph = StateGraph(State)
    previous = START
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(previous, name)
        previous = name
    graph.add_edge(previous, END)
    return graph


echo = line(shout=shout)
hitl = line(prep=shout, ask=ask)
nested = line(before=shout, child=line(child_ask=ask).compile())
