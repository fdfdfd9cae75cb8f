"""A user's file with the name of a package that the server itself imports."""

from typing import TypedDict

from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    said: str


def say(state: State):
    return {"said": "redis.py"}


graph = StateGraph(State).add_node(say).add_edge(START, "say").compile()
