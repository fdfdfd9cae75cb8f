"""Graphs that use what the operator has plugged in."""

import asyncio
import time
from pathlib import Path
from typing import Any

from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph_sdk import get_client
from typing_extensions import TypedDict

#: A test that failed must not leave nodes behind that wait for ever.
PATIENCE_SECONDS = 60


class State(TypedDict, total=False):
    value: Any


async def remember(state: State) -> State:
    """What was remembered before, and what the API of this process says of it."""
    store = get_store()
    before = await store.aget(("notes",), "last")
    await store.aput(("notes",), "last", {"value": state["value"]})
    told = await get_client().store.get_item(["notes"], key="last")
    return {
        "value": {
            "store": type(store).__name__,
            "before": before and before.value["value"],
            "told": told["value"]["value"],
        }
    }


remembers = StateGraph(State).add_node(remember).add_edge(START, "remember")


async def wait(state: State) -> State:
    """Until there is a file of this name."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not Path(state["value"]).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody made {state['value']}")
        await asyncio.sleep(0.01)
    return {}


waits = StateGraph(State).add_node(wait).add_edge(START, "wait")
