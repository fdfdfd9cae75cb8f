"""A run that is over is deleted, and others build upon what it has left."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from sqlalchemy import Engine

from trellis.db import cancel
from trellis.db.checkpoints import Cache, DirectBackend
from trellis.db.checkpoints.saver import Saver
from trellis.db.rounds import Read
from trellis.db.serde import serializer
from trellis.db.writer import FencedBackend, Writer
from trellis.domain.runs import Claim

LONG = "word " * 100


@pytest.fixture
def writer(engine: Engine) -> Iterator[Writer]:
    with closing(Writer(engine, cache=Cache())) as writer:
        yield writer


@pytest.fixture
def delete(engine: Engine) -> Callable[[Claim], None]:
    def delete(claim: Claim) -> None:
        with engine.begin() as tx:
            assert cancel.lock_thread(tx, "default", claim.thread_id)
            assert cancel.delete_run(tx, claim.thread_id, claim.run_id) is not None

    return delete


@pytest.fixture
def play(writer: Writer) -> Callable[..., Any]:
    """What a claimed run does to its graph."""

    def play(graph: Any, claim: Claim, start: Any, durability: str = "sync") -> Any:
        saver = Saver(
            FencedBackend(writer, claim),
            serde=serializer(),
            claim=claim,
            durability=durability,
        )
        made = graph.copy({"checkpointer": saver})
        made.invoke(start, of(claim), durability=durability)
        saver.flush()
        writer.submit(Read(query=lambda _: None, claim=claim)).result(20)

    return play


@pytest.fixture
def state_of(engine: Engine) -> Iterator[Callable[[Any, Claim], Any]]:
    """A thread's values, as a process reads them that remembers nothing."""
    with closing(DirectBackend(engine)) as backend:

        def state_of(graph: Any, claim: Claim) -> Any:
            saver = Saver(backend, serde=serializer())
            return graph.copy({"checkpointer": saver}).get_state(of(claim)).values

        yield state_of


def of(claim: Claim) -> RunnableConfig:
    return {"configurable": {"thread_id": claim.thread_id}, "metadata": {"run_id": claim.run_id}}


class State(TypedDict):
    log: Annotated[list[str], operator.add]
    note: str


def noting(meanwhile: Callable[[], None]) -> Any:
    def node(_: State) -> dict[str, Any]:
        meanwhile()
        return {"log": [LONG] * 2}

    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()


def asking(meanwhile: Callable[[], None]) -> Any:
    def node(_: State) -> dict[str, Any]:
        answer = interrupt("?")
        meanwhile()
        return {"log": [answer]}

    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()


def test_delete_run__while_another_has_not_written_yet(
    a_thread, a_run, claim, finish, play, delete, state_of, one
):
    """Under durability exit the second one writes at its end."""
    thread_id = a_thread()
    first = claim(a_run(thread_id))
    play(noting(lambda: None), first, {"log": [LONG] * 9, "note": LONG})
    assert finish(first)
    second = claim(a_run(thread_id))

    play(noting(lambda: delete(first)), second, {"log": [LONG]}, "exit")

    found = state_of(noting(lambda: None), second)
    assert (len(found["log"]), found["note"]) == (14, LONG)
    assert one("SELECT count(*) FROM run") == 1


def test_delete_run__while_another_answers_its_question(
    a_thread, a_run, claim, finish, play, delete, state_of
):
    thread_id = a_thread()
    first = claim(a_run(thread_id))
    play(asking(lambda: None), first, {"log": [LONG] * 9, "note": LONG})
    assert finish(first)
    second = claim(a_run(thread_id))

    play(asking(lambda: delete(first)), second, Command(resume="yes"))

    assert state_of(asking(lambda: None), second) == {"log": [*[LONG] * 9, "yes"], "note": LONG}


def test_delete_run__once_the_other_is_over(a_thread, a_run, claim, finish, play, delete, one):
    thread_id = a_thread()
    runs = []
    for _ in range(2):
        runs.append(claim(a_run(thread_id)))
        play(noting(lambda: None), runs[-1], {"log": [LONG]})
        assert finish(runs[-1])

    delete(runs[0])

    assert one("SELECT count(*) FROM checkpoint WHERE run_id = :r", r=runs[0].run_id) == 0
    assert one("SELECT count(*) FROM checkpoint") > 0


def joined(state: list[str], writes: list[list[str]]) -> list[str]:
    return [*state, *(text for write in writes for text in write)]


class Delta(TypedDict):
    log: Annotated[list[str], DeltaChannel(joined)]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_delete_run__that_a_delta_channel_is_rebuilt_from(
    a_thread, a_run, claim, finish, play, delete, state_of, one
):
    graph = StateGraph(Delta).add_node("node", lambda _: {"log": ["n"]}).add_edge(START, "node")
    thread_id, runs = a_thread(), []
    for n in range(3):
        runs.append(claim(a_run(thread_id)))
        play(graph.compile(), runs[-1], {"log": [f"{n}"]})
        assert finish(runs[-1])

    delete(runs[1])

    assert state_of(graph.compile(), runs[2]) == {"log": ["0", "n", "1", "n", "2", "n"]}
    delete(runs[2])
    assert state_of(graph.compile(), runs[2]) == {"log": ["0", "n", "1", "n"]}
    assert one("SELECT count(*) FROM run") == 1
