"""Every kind of thing that langgraph.json may name. Each says which one it is."""

import operator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph_sdk.runtime import ServerRuntime


class State(TypedDict):
    said: Annotated[list[str], operator.add]


def saying(word):
    """A state graph, not compiled, whose only node says a word."""

    def say(state: State):
        return {"said": [word]}

    return StateGraph(State).add_node(say).add_edge(START, "say")


compiled = saying("compiled").compile()
builder = saying("builder")


@task
async def add(total: int, amount: int) -> int:
    return total + amount


@entrypoint()
async def tally(amount: int, *, previous: int | None = None) -> entrypoint.final:
    total = await add(previous or 0, amount)
    return entrypoint.final(value={"total": total}, save=total)


def make():
    return saying("factory").compile()


async def make_async():
    return saying("async factory").compile()


def make_for_config(config: RunnableConfig):
    return saying(config["configurable"].get("word", "no word")).compile()


def make_for_runtime(runtime: ServerRuntime):
    return saying(runtime.access_context)


async def make_for_both(config: RunnableConfig, runtime: ServerRuntime):
    during = runtime.execution_runtime
    word = config["configurable"].get("word", "no word")
    return saying(f"{word}, {'executed' if during else 'read'}").compile()


@asynccontextmanager
async def borrowed(config: RunnableConfig):
    """Leaves a trace of when it was entered and left, in the file that the config names."""
    journal = config["configurable"].get("journal")
    note(journal, "entered")
    try:
        yield saying("context manager").compile()
    finally:
        note(journal, "left")


def note(journal, line):
    if journal:
        with Path(journal).open("a") as file:
            file.write(line + "\n")
