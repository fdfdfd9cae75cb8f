"""Graphs that stop to ask a human."""

import operator
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel, field_validator
from steps import note, passage


class State(TypedDict, total=False):
    value: str
    answer: str
    folder: str
    hold: list[str]
    log: Annotated[list[str], operator.add]


def prepare(state: State):
    return {"log": ["prepare"]}


def ask(state: State):
    answer = interrupt({"question": "approve?", "value": state.get("value")})
    return {"answer": answer, "log": ["ask"]}


def finish(state: State):
    return {"log": ["finish"]}


def in_a_row(*nodes):
    return StateGraph(State).add_sequence(nodes).add_edge(START, nodes[0].__name__)


hitl = in_a_row(prepare, ask, finish).compile()


async def ask_twice(state: State):
    """The test can hold it between the two questions."""
    first = interrupt("first?")
    note(state, f"first={first}")
    await passage(state, "between")
    second = interrupt("second?")
    note(state, f"second={second}")
    return {"log": [f"first={first}", f"second={second}"]}


two_questions = in_a_row(ask_twice).compile()


def ask_left(state: State):
    return {"log": [f"left={interrupt('left?')}"]}


def ask_right(state: State):
    return {"log": [f"right={interrupt('right?')}"]}


parallel_questions = (
    StateGraph(State)
    .add_node(ask_left)
    .add_node(ask_right)
    .add_edge(START, "ask_left")
    .add_edge(START, "ask_right")
    .compile()
)

nested_question = (
    StateGraph(State)
    .add_node(prepare)
    .add_node("child", in_a_row(ask).compile())
    .add_edge(START, "prepare")
    .add_edge("prepare", "child")
    .compile()
)


class Checked(BaseModel):
    """A state that refuses what is no number, and leaves over one that is negative."""

    count: int = 0

    @field_validator("count")
    @classmethod
    def leave(cls, count: int) -> int:
        if count < 0:
            raise SystemExit(count)
        return count


def add(state: Checked):
    return {"count": state.count + 1}


checked = StateGraph(Checked).add_node(add).add_edge(START, "add").add_edge("add", "again")
checked.add_node("again", add)
