"""Graphs that use what the operator has plugged in."""

from typing import Any

from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph_sdk import get_client
from typing_extensions import TypedDict


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
