"""Graphs that are bad company: one keeps memory, the others do not stop when asked."""

import asyncio
import time
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph

#: A test that failed must not leave nodes behind that wait for ever.
PATIENCE_SECONDS = 60

kept = []


class State(TypedDict, total=False):
    megabytes: int
    folder: str


async def leak(state: State):
    kept.append(bytearray(b"x") * (state["megabytes"] << 20))


leaky = StateGraph(State).add_node(leak).add_edge(START, "leak")


def begin(state):
    """Note that a node began; false when it may end at once."""
    waits = not (Path(state["folder"]) / "open").exists()
    with (Path(state["folder"]) / "journal").open("a") as file:
        file.write("began\n")
    return waits


def patience():
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        yield


async def refuse(state: State):
    """Swallow every cancellation."""
    if begin(state):
        for _ in patience():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue


def block(state: State):
    """Keep a thread, which nobody can cancel."""
    if begin(state):
        for _ in patience():
            time.sleep(0.05)


async def hog(state: State):
    """Keep the event loop from everybody."""
    if begin(state):
        for _ in patience():
            time.sleep(0.05)


refusing = StateGraph(State).add_node(refuse).add_edge(START, "refuse")
blocking = StateGraph(State).add_node(block).add_edge(START, "block")
hogging = StateGraph(State).add_node(hog).add_edge(START, "hog")
