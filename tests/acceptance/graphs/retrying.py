"""Graphs that fail and are tried again or not, and graphs that keep something in the store."""

import time
from pathlib import Path

import psycopg2
import redis
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy
from steps import PATIENCE_SECONDS, State, note, passage

FAILURES = {
    "own": lambda: ValueError("boom"),
    "database": lambda: psycopg2.OperationalError("server closed the connection unexpectedly"),
    "redis": lambda: redis.ConnectionError("connection refused"),
}


async def fail_twice(state: State):
    """Note each call, and raise in the first two."""
    note(state, "called")
    if (Path(state["folder"]) / "journal").read_text().count("called") < 3:
        raise FAILURES[state["fail"]]()
    return {"log": ["done"]}


POLICY = RetryPolicy(max_attempts=3, initial_interval=0.01, retry_on=Exception)

flaky = StateGraph(State).add_node(fail_twice).add_edge(START, "fail_twice")
patient = StateGraph(State).add_node(fail_twice, retry_policy=POLICY).add_edge(START, "fail_twice")


def keep(name):
    async def run(state: State, runtime: Runtime):
        note(state, f">{name}")
        await passage(state, name)
        await runtime.store.aput((state["name"],), name, {"kept": True})
        found = await runtime.store.aget((state["name"],), name)
        return {"log": [name] if found else []}

    return name, run


keeping = StateGraph(State).add_sequence([keep("one"), keep("two"), keep("three")])
keeping.add_edge(START, "one")


def put_late(state: State, runtime: Runtime):
    """In a thread, which goes on although its run is not this attempt's any more."""
    note(state, ">put")
    end = time.monotonic() + PATIENCE_SECONDS
    while not (Path(state["folder"]) / "put").exists() and time.monotonic() < end:
        time.sleep(0.01)
    try:
        runtime.store.put((state["name"],), "late", {"kept": True})
    except Exception as error:
        note(state, type(error).__name__)
        raise
    note(state, "<put")


late = StateGraph(State).add_node(put_late).add_edge(START, "put_late")
