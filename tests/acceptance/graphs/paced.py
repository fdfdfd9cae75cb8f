"""Graphs whose nodes take long enough for what was written before them to be saved, and that note what they do."""

import asyncio
import operator
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from steps import note

#: Longer than rows wait that nobody waits for.
PACE_SECONDS = 0.05


class State(TypedDict, total=False):
    folder: str
    log: Annotated[list[str], operator.add]


def work(name, *, paces=1):
    async def run(state: State):
        note(state, name)
        await asyncio.sleep(paces * PACE_SECONDS)
        return {"log": [name]}

    return name, run


def ask(name, *questions):
    """A node that asks one question after the other, and pauses after each answer."""

    async def run(state: State):
        note(state, name)
        given = []
        for question in questions:
            answer = interrupt(question)
            note(state, f"{question}={answer}")
            given.append(f"{question}={answer}")
            await asyncio.sleep(PACE_SECONDS)
        return {"log": given}

    return name, run


def in_a_row(*nodes, keeps=None):
    """`keeps`: as a subgraph it goes on in the next turn from where it ended in this one."""
    return (
        StateGraph(State)
        .add_sequence(nodes)
        .add_edge(START, nodes[0][0])
        .compile(checkpointer=keeps)
    )


def side_by_side(*nodes, then):
    graph = StateGraph(State).add_node(*then)
    for name, node in nodes:
        graph.add_node(name, node).add_edge(START, name)
    return graph.add_edge([name for name, _ in nodes], then[0]).compile()


line = in_a_row(work("a"), work("b"), work("c"))
parallel = side_by_side(work("left"), work("right", paces=3), then=work("join"))
nested = in_a_row(work("a"), ("child", in_a_row(work("b"), work("c"))), work("d"))

one_question = in_a_row(work("a"), ask("ask", "q1"), work("z"))
two_in_one = in_a_row(work("a"), ask("ask", "q1", "q2"), work("z"))
two_in_two = in_a_row(ask("ask", "q1"), work("m"), ask("again", "q2"))
two_below = in_a_row(work("a"), ("child", in_a_row(work("b"), ask("ask", "q1", "q2"))), work("z"))
two_beside = side_by_side(ask("left", "l1", "l2"), ask("right", "r1"), then=work("join"))

stateful = in_a_row(work("a"), ("child", in_a_row(work("b"), work("c"), keeps=True)), work("d"))
stateful_question = in_a_row(
    work("a"), ("child", in_a_row(work("b"), ask("ask", "q1"), keeps=True)), work("z")
)
