"""Changes of a state that are worked out before anybody else may see them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.types import StateUpdate
from sqlalchemy import Engine

from trellis.db.checkpoints import DirectBackend, StagedBackend, insert
from trellis.db.checkpoints.saver import Saver
from trellis.db.serde import serializer
from trellis.domain.ids import new_id


def append(before: list[str] | None, more: Sequence[list[str]]) -> list[str]:
    return [*(before or []), *(item for items in more for item in items)]


class State(TypedDict, total=False):
    log: Annotated[list[str], DeltaChannel(append, snapshot_frequency=3)]
    text: str


def say(state: State) -> State:
    return {"log": ["said"], "text": "x" * 100}


graph = StateGraph(State).add_node(say).add_edge(START, "say").compile()


def on(backend: DirectBackend) -> Any:
    """The graph, with a backend's checkpoints."""
    equipped = copy.copy(graph)
    equipped.checkpointer = Saver(backend, serde=serializer())
    return equipped


def test_staged(engine: Engine, backend: DirectBackend) -> None:
    """What is staged is seen by its own reads at once, and by others when it is stored."""
    config: Any = {"configurable": {"thread_id": new_id()}}
    staged = StagedBackend(engine)
    steps = [[StateUpdate({"log": [str(n)]}, "say")] for n in range(5)]

    async def work() -> list[Any]:
        await on(backend).ainvoke({"log": ["in"]}, config)
        await on(staged).abulk_update_state(config, steps)
        seen = [await on(each).aget_state(config) for each in (staged, backend)]
        staged.close()
        with engine.begin() as tx:
            insert(tx, staged.rows)
        return [state.values for state in (*seen, await on(backend).aget_state(config))]

    inside, outside, stored = asyncio.run(work())

    assert outside == {"log": ["in", "said"], "text": "x" * 100}
    assert inside == stored == {**outside, "log": ["in", "said", "0", "1", "2", "3", "4"]}
