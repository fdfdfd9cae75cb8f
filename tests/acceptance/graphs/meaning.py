"""What the store's items mean, and graphs that search them by it."""

import asyncio
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

WORDS = ("cat", "dog", "car")


async def embed(texts: list[str]) -> list[list[float]]:
    """As many dimensions as words. Nobody is on this loop but calls of this function."""
    await asyncio.sleep(0)
    if "fail" in texts:
        raise RuntimeError("no more credit")
    return [[float(text.count(word)) for word in WORDS] for text in texts]


class State(TypedDict, total=False):
    who: str
    found: list[Any]


async def remember(state: State, runtime: Runtime) -> State:
    namespace = ("memories", state["who"])
    await runtime.store.aput(namespace, "pet", {"text": "a cat and a dog"})
    await runtime.store.aput(namespace, "vehicle", {"text": "a car"})
    await runtime.store.aput(namespace, "note", {"text": "cat"}, index=False)
    return {}


def recall(state: State, runtime: Runtime) -> State:
    found = runtime.store.search(("memories", state["who"]), query="dog")
    return {"found": [[item.key, item.score and round(item.score, 4)] for item in found]}


graph = StateGraph(State).add_node(remember).add_node(recall)
graph.add_edge(START, "remember").add_edge("remember", "recall")
