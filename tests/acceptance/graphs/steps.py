"""Graphs of several steps that leave a trace on disk, and that a test can hold wherever it likes."""

import asyncio
import operator
import time
from pathlib import Path
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Command

#: A test that failed must not leave nodes behind that wait for ever.
PATIENCE_SECONDS = 60


class State(TypedDict, total=False):
    name: str
    folder: str
    hold: list[str]
    fail: str
    deaths: int
    pause: float
    log: Annotated[list[str], operator.add]


def note(state, line):
    """Leave a trace that outlives the process."""
    if folder := state.get("folder"):
        with (Path(folder) / "journal").open("a") as file:
            file.write(line + "\n")


async def passage(state, name):
    """Wait, if the test asked for it, until the test makes a file of this name."""
    if name not in state.get("hold", ()):
        return
    end = time.monotonic() + PATIENCE_SECONDS
    while not (Path(state["folder"]) / name).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody opened {name}")
        await asyncio.sleep(0.005)


def step(name):
    async def run(state: State):
        who = state.get("name", "")
        note(state, f"{who}>{name}")
        await passage(state, name)
        await asyncio.sleep(state.get("pause", 0))
        note(state, f"{who}<{name}")
        return {"log": [name]}

    return name, run


steps = StateGraph(State).add_sequence([step("one"), step("two"), step("three")])
steps.add_edge(START, "one")


class Overdue(BaseException):
    """What some libraries raise in a node: no `Exception`, so that the node does not catch it."""


def halt():
    """Stop the event loop, as a script may that thinks it is its own."""
    asyncio.get_running_loop().stop()
    return Overdue("stopped")


FAILURES = {
    "plain": lambda: ValueError("boom"),
    "nasty": lambda: RuntimeError("nul \x00, lone \ud800 and \ud83d\ude00 a pair"),
    "cancelled": asyncio.CancelledError,
    "exit": lambda: SystemExit(3),
    "silent": AssertionError,
    "overdue": lambda: Overdue("too late"),
    "halt": halt,
}


async def fail(state: State):
    raise FAILURES[state.get("fail", "plain")]()


failing = StateGraph(State).add_sequence([step("one"), ("fail", fail)]).add_edge(START, "one")


def hand(state: State):
    return Command(graph=Command.PARENT, update={"log": ["handed"]}, goto="taken")


handing = StateGraph(State).add_sequence([step("one"), ("hand", hand)]).add_edge(START, "one")


def leave(state: State):
    raise SystemExit(3)


quitting = StateGraph(State).add_node(leave).add_edge(START, "leave")
