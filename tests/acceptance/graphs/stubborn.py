"""Graphs that are hard to stop: a sync node, a node that ignores its cancellation, a node deep in a subgraph."""

import asyncio
import time
from pathlib import Path

from langgraph.graph import START, StateGraph
from steps import PATIENCE_SECONDS, State, note, step, steps


def block(state: State):
    """A sync node, held without the event loop's knowledge."""
    note(state, ">block")
    end = time.monotonic() + PATIENCE_SECONDS
    while not (Path(state["folder"]) / "block").exists() and time.monotonic() < end:
        time.sleep(0.01)
    note(state, "<block")
    return {"log": ["block"]}


async def ignore(state: State):
    """Goes on, however often it is cancelled, and says so."""
    note(state, ">ignore")
    end = time.monotonic() + PATIENCE_SECONDS
    while not (Path(state["folder"]) / "ignore").exists() and time.monotonic() < end:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            note(state, "cancelled")
    note(state, "<ignore")
    return {"log": ["ignore"]}


blocking = (
    StateGraph(State)
    .add_sequence([step("one"), block, step("three")])
    .add_edge(START, "one")
    .compile()
)
ignoring = (
    StateGraph(State)
    .add_sequence([step("one"), ignore, step("three")])
    .add_edge(START, "one")
    .compile()
)
nested_steps = (
    StateGraph(State)
    .add_sequence([step("before"), ("child", steps.compile())])
    .add_edge(START, "before")
    .compile()
)
