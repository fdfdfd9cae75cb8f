"""Graphs that use what the operator has plugged in."""

import asyncio
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph_sdk import get_client
from langgraph_sdk.cache import cache_get, swr
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


async def recall(state: State) -> State:
    """What the web process has kept for this run, and what is loaded once."""

    async def load() -> str:
        return str(uuid.uuid4())

    found = await swr("token", load, fresh_for=timedelta(hours=1))
    asked = await cache_get("asked")
    return {"value": {"asked": asked, "status": found.status, "loaded": found.value}}


recalls = StateGraph(State).add_node(recall).add_edge(START, "recall")
