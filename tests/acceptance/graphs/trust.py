"""A graph whose state holds a class that no schema names."""

from dataclasses import dataclass
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph


@dataclass
class Listed:
    """`checkpointer.serde` of langgraph.json names it."""

    n: int


@dataclass
class Unlisted:
    n: int


class State(TypedDict, total=False):
    things: list[Any]
    seen: list[str]


def look(state: State) -> State:
    seen = [type(thing).__name__ for thing in state.get("things", [])]
    return {"seen": seen, "things": [Listed(1), Unlisted(2)]}


graph = StateGraph(State).add_node(look).add_edge(START, "look").compile()
