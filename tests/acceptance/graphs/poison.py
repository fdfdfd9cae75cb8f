"""A graph that is the death of its process, one way or another."""

import os
import signal
from pathlib import Path

from langgraph.graph import START, StateGraph
from steps import State, note, passage

DEATHS = {
    "exit": lambda: os._exit(1),
    "left": lambda: os._exit(0),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


async def die(state: State):
    note(state, ">die")
    await passage(state, "die")
    journal = (Path(state["folder"]) / "journal").read_text()
    if journal.count(">die") <= state.get("deaths", 99):
        DEATHS[state["fail"]]()


graph = StateGraph(State).add_node(die).add_edge(START, "die").compile()
