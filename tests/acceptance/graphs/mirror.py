"""Graphs that tell what they were told: config, context, metadata, environment, store."""

import os
from dataclasses import dataclass
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime


@dataclass
class Context:
    name: str = "nobody"


class State(TypedDict, total=False):
    seen: dict[str, Any]


def look(state: State, config: RunnableConfig, runtime: Runtime[Context]):
    configurable = config["configurable"]
    seen = {
        "name": runtime.context.name if runtime.context else None,
        "configurable": {k: v for k, v in configurable.items() if not k.startswith("__")},
        "metadata": config["metadata"],
        "tags": config.get("tags"),
        "recursion_limit": config.get("recursion_limit"),
        "max_concurrency": config.get("max_concurrency"),
        "motto": os.environ.get("ACCEPTANCE_MOTTO"),
    }
    return {"seen": seen}


graph = StateGraph(State, context_schema=Context).add_node(look).add_edge(START, "look").compile()


class Visits(TypedDict, total=False):
    who: str
    visits: int


async def visit(state: Visits, runtime: Runtime):
    namespace = ("visits", state["who"])
    found = await runtime.store.aget(namespace, "count")
    visits = 1 + (found.value["n"] if found else 0)
    await runtime.store.aput(namespace, "count", {"n": visits})
    return {"visits": visits}


memory = StateGraph(Visits).add_node(visit).add_edge(START, "visit").compile()
