"""A checkpoint is read as it was at one moment, whatever is deleted meanwhile."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from sqlalchemy import Engine, event

from trellis.db.checkpoints import DirectBackend, StagedBackend, delete_for_runs, plain_values
from trellis.db.checkpoints.saver import Saver
from trellis.db.serde import serializer
from trellis.domain.ids import new_id

LONG = "word " * 100


class State(TypedDict):
    log: Annotated[list[str], operator.add]
    note: str


def graph(saver: Saver) -> Any:
    built = StateGraph(State).add_node("n", lambda _: {"log": [LONG]}).add_edge(START, "n")
    return built.compile(checkpointer=saver)


@pytest.fixture
def two_runs(backend: DirectBackend) -> tuple[str, str]:
    """A thread, and the second of its runs."""
    thread_id, run_id = new_id(), ""
    for n in range(2):
        run_id = new_id()
        config: RunnableConfig = {
            "configurable": {"thread_id": thread_id},
            "metadata": {"run_id": run_id},
        }
        graph(Saver(backend, serde=serializer())).invoke(
            {"log": [LONG] * 9, "note": f"{n} {LONG}"}, config
        )
    return thread_id, run_id


@pytest.fixture
def rolled_back(engine: Engine, two_runs: tuple[str, str]) -> Callable[[], None]:
    """Have the second run rolled back once, between the reading of a checkpoint and that of its values."""
    waiting = [two_runs[1]]

    def roll_back(_: Any, __: Any, statement: str, *___: Any) -> None:
        if waiting and "FROM unnest" in statement and "JOIN checkpoint_blob b" in statement:
            run_id = waiting.pop()
            with engine.begin() as tx:
                delete_for_runs(tx, [run_id])

    event.listen(engine, "before_cursor_execute", roll_back)
    return lambda: event.remove(engine, "before_cursor_execute", roll_back)


@pytest.mark.parametrize("kind", [DirectBackend, StagedBackend])
def test_state__of_a_run_that_is_rolled_back(
    engine: Engine,
    backend: DirectBackend,
    two_runs: tuple[str, str],
    rolled_back: Callable[[], None],
    kind: type[DirectBackend],
) -> None:
    thread: RunnableConfig = {"configurable": {"thread_id": two_runs[0]}}

    with closing(kind(engine)) as reader:
        found = graph(Saver(reader, serde=serializer())).get_state(thread).values

    rolled_back()
    assert (len(found["log"]), found["note"]) == (20, f"1 {LONG}")
    after = graph(Saver(backend, serde=serializer())).get_state(thread).values
    assert (len(after["log"]), after["note"]) == (10, f"0 {LONG}")


def test_plain_values__of_a_run_that_is_rolled_back(
    engine: Engine, two_runs: tuple[str, str], rolled_back: Callable[[], None]
) -> None:
    thread_id, _ = two_runs

    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as tx:
        found = plain_values(tx, [thread_id], states={})[thread_id]

    rolled_back()
    assert (len(found["log"]), found["note"]) == (10, f"0 {LONG}")
