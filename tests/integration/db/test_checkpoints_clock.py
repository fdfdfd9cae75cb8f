"""Runs of one thread on hosts whose clocks disagree: the newest checkpoint is the one that was made last."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base import id as ids
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, StateGraph

from trellis.db.checkpoints import Key, load
from trellis.db.checkpoints.backend import DirectBackend
from trellis.db.checkpoints.clock import observe
from trellis.db.checkpoints.saver import Saver
from trellis.db.serde import serializer
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim

OnHost = Callable[[int], None]


class State(TypedDict):
    log: Annotated[list[str], operator.add]


def step(state: State) -> dict[str, Any]:
    return {"log": ["done"]}


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> OnHost:
    """From now on this is a process that has read nothing yet, on a host whose clock is wrong by so many seconds."""

    def move(seconds: int) -> None:
        clock = SimpleNamespace(time_ns=lambda: time.time_ns() + seconds * 10**9)
        monkeypatch.setattr(ids, "time", clock)
        monkeypatch.setattr(ids, "_last_v6_timestamp", None)

    return move


def graph_on(saver: Saver) -> Any:
    graph = StateGraph(State).add_node("step", step).add_edge(START, "step")
    return graph.compile(checkpointer=saver)


def of(thread_id: str, **more: str) -> Any:
    return {"configurable": {"thread_id": thread_id, **more}}


def test_run__after_one_on_a_fast_host(backend: DirectBackend, on_host: OnHost) -> None:
    thread_id = new_id()
    for seconds in (600, 0, -600):
        on_host(seconds)
        values = graph_on(Saver(backend, serde=serializer())).invoke({"log": ["in"]}, of(thread_id))

    assert values["log"] == ["in", "done"] * 3
    assert graph_on(Saver(backend, serde=serializer())).get_state(of(thread_id)).values == values


@pytest.mark.parametrize("claimed", [False, True])
def test_fork__of_a_checkpoint_of_a_fast_host(
    backend: DirectBackend, on_host: OnHost, claimed: bool
) -> None:
    thread_id = new_id()
    on_host(600)
    fast = graph_on(Saver(backend, serde=serializer()))
    fast.invoke({"log": ["in"]}, of(thread_id))
    first = [*fast.get_state_history(of(thread_id))][-1].config["configurable"]["checkpoint_id"]

    on_host(0)
    key = Key(thread_id, "", None)
    latest = backend.read(lambda tx: load(tx, [key])[0]).result()
    options: dict[str, Any] = {
        "claim": Claim(run_id=new_id(), thread_id=thread_id, fence=1, attempt=1),
        "preloaded": {key: latest},
    }
    fork = graph_on(Saver(backend, serde=serializer(), **(options if claimed else {})))
    fork.invoke({"log": ["again"]}, of(thread_id, checkpoint_id=first))

    assert fork.get_state(of(thread_id)).values["log"] == ["again", "done"]


def test_observe__what_is_no_later_id(on_host: OnHost) -> None:
    earlier = str(uuid6())
    before = str(uuid6())
    for text in (earlier, "", "latest", "ffffffff-ffff-1fff-bfff-ffffffffffff", "f" * 32):
        observe(text)

    assert before < str(uuid6()) < "1fff"
