"""A graph in a module of a package."""

from typing import TypedDict

from langgraph.graph import START, StateGraph

from app.words import WORD


class State(TypedDict, total=False):
    said: str


def say(state: State):
    return {"said": WORD}


graph = StateGraph(State).add_node(say).add_edge(START, "say").compile()
