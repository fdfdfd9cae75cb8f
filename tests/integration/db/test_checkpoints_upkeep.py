"""Listing, copying, pruning and deleting, and a thread's values without its graph."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from sqlalchemy import Engine

from trellis.db.checkpoints import State as Known
from trellis.db.checkpoints import plain_values, prune
from trellis.db.checkpoints.saver import Saver
from trellis.domain.ids import new_id
from trellis.errors import Invalid

NewSaver = Callable[[], Saver]
Count = Callable[[], tuple[int, int, int]]


class State(TypedDict):
    log: Annotated[list[str], operator.add]
    total: int
    note: str


def growing() -> Any:
    def more(state: State) -> dict[str, Any]:
        return {
            "log": ["a line of some length " * 10],
            "total": len(state["log"]),
            "note": "n" * 100,
        }

    return StateGraph(State).add_node("more", more).add_edge(START, "more").compile()


def of(thread_id: str, **more: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **more}}


def turns(
    new_saver: NewSaver, thread_id: str, number: int, *, run_ids: list[str] | None = None
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for run_id in run_ids or [new_id() for _ in range(number)]:
        config = {**of(thread_id), "metadata": {"run_id": run_id}}
        graph = growing().copy({"checkpointer": new_saver()})
        result = graph.invoke({"log": ["start " * 30] * 3}, config)
    return result


def state(saver: Saver, thread_id: str) -> dict[str, Any]:
    graph = growing().copy({"checkpointer": saver})
    found: dict[str, Any] = graph.get_state(of(thread_id)).values
    return found


def test_list__goes_over_pages_newest_first(new_saver: NewSaver) -> None:
    thread_id = new_id()
    turns(new_saver, thread_id, 20)
    ids = [found.checkpoint["id"] for found in new_saver().list(of(thread_id))]
    assert len(ids) == 60
    assert ids == sorted(ids, reverse=True)

    async def listed(**options: Any) -> list[str]:
        return [
            found.checkpoint["id"] async for found in new_saver().alist(of(thread_id), **options)
        ]

    assert asyncio.run(listed()) == ids
    assert asyncio.run(listed(limit=30)) == ids[:30]
    assert asyncio.run(listed(limit=0)) == []
    assert asyncio.run(listed(before=of(thread_id, checkpoint_id=ids[40]))) == ids[41:]
    assert asyncio.run(listed(filter={"source": "input"}, limit=5)) == ids[2:17:3]


def test_list_without_a_thread__goes_over_all_of_them(new_saver: NewSaver) -> None:
    threads = sorted(new_id() for _ in range(3))
    for thread_id in threads:
        turns(new_saver, thread_id, 10)
    new_saver().copy_thread(threads[0], copy := new_id())
    found = [
        (f.checkpoint["id"], f.config["configurable"]["thread_id"]) for f in new_saver().list(None)
    ]
    assert len(found) == len(set(found)) == 120
    assert {thread_id for _, thread_id in found} == {*threads, copy}


def test_filter__is_containment_and_takes_anything(new_saver: NewSaver) -> None:
    thread_id, run_id = new_id(), new_id()
    turns(new_saver, thread_id, 1, run_ids=[run_id])
    turns(new_saver, thread_id, 1)
    assert len(list(new_saver().list(of(thread_id), filter={"run_id": run_id}))) == 3
    assert len(list(new_saver().list(of(thread_id), filter={"parents": {}}))) == 6
    assert (
        list(new_saver().list(of(thread_id), filter={"'; DROP TABLE checkpoint; --": "%s\0"})) == []
    )


def test_copy__is_complete_and_independent(new_saver: NewSaver, cold_saver: Saver) -> None:
    source, target, runs = new_id(), new_id(), [new_id() for _ in range(6)]
    expected = turns(new_saver, source, 6, run_ids=runs)
    new_saver().copy_thread(source, target)
    new_saver().delete_for_runs(runs[3:])
    new_saver().delete_thread(source)
    assert state(cold_saver, target) == expected
    assert len(list(new_saver().list(of(target)))) == 18
    assert list(new_saver().list(of(source))) == []
    grown = turns(new_saver, target, 1)
    assert grown["log"][:-4] == expected["log"]


def test_prune__keeps_the_values_of_the_latest_and_what_they_build_on(
    new_saver: NewSaver, cold_saver: Saver, count: Count
) -> None:
    thread_id, other = new_id(), new_id()
    expected, untouched = turns(new_saver, thread_id, 12), turns(new_saver, other, 1)
    before = count()
    new_saver().prune([thread_id])
    checkpoints, blobs, _ = count()
    assert checkpoints == 1 + 3
    assert blobs < before[1] / 3
    assert state(cold_saver, thread_id) == expected
    assert state(cold_saver, other) == untouched
    assert turns(new_saver, thread_id, 1)["log"][:-4] == expected["log"]


def test_prune__with_delete_leaves_nothing(new_saver: NewSaver, count: Count) -> None:
    thread_id = new_id()
    turns(new_saver, thread_id, 3)
    new_saver().prune([thread_id], strategy="delete")
    assert count() == (0, 0, 0)


def test_prune__refuses_another_strategy(new_saver: NewSaver, engine: Engine) -> None:
    with pytest.raises(Invalid, match="keep_latest or delete"), engine.begin() as tx:
        prune(tx, [new_id()], strategy="keep_some")


def test_deleting_a_run__gives_back_the_state_before_it(
    new_saver: NewSaver, cold_saver: Saver, count: Count
) -> None:
    thread_id, runs = new_id(), [new_id() for _ in range(3)]
    expected = turns(new_saver, thread_id, 5)
    before = count()
    turns(new_saver, thread_id, 3, run_ids=runs)
    assert count()[0] == before[0] + 9
    new_saver().delete_for_runs(runs)
    assert state(cold_saver, thread_id) == expected
    assert count() == before


def test_deleting_a_run_in_the_middle__keeps_what_later_ones_build_on(
    new_saver: NewSaver, cold_saver: Saver
) -> None:
    thread_id, runs = new_id(), [new_id() for _ in range(3)]
    turns(new_saver, thread_id, 3)
    turns(new_saver, thread_id, 3, run_ids=runs)
    expected = turns(new_saver, thread_id, 1)
    new_saver().delete_for_runs(runs)
    assert state(cold_saver, thread_id) == expected


def test_deleting_a_thread__leaves_no_row(new_saver: NewSaver, count: Count) -> None:
    thread_id = new_id()
    turns(new_saver, thread_id, 3)
    asyncio.run(new_saver().adelete_thread(thread_id))
    assert count() == (0, 0, 0)
    assert new_saver().get_tuple(of(thread_id)) is None


def test_ids_that_are_no_uuids__are_refused(new_saver: NewSaver) -> None:
    with pytest.raises(Invalid, match="run_id must be a UUID"):
        new_saver().delete_for_runs(["run-1"])
    with pytest.raises(Invalid, match="thread_id must be a UUID"):
        new_saver().copy_thread(new_id(), "thread-1")


def test_plain_values__are_the_graphs_values_as_json(new_saver: NewSaver, engine: Engine) -> None:
    chatting, counting, fresh = new_id(), new_id(), new_id()
    chat = StateGraph(MessagesState).add_node("n", lambda _: {}).add_edge(START, "n").compile()
    message = HumanMessage("hi", id="1")
    chat.copy({"checkpointer": new_saver()}).invoke({"messages": [message]}, of(chatting))
    expected = turns(new_saver, counting, 12)
    with engine.begin() as tx:
        found = plain_values(
            tx,
            [chatting, counting, fresh],
            states={chatting: Known(["messages"]), counting: Known(), fresh: Known()},
        )
    assert found == {chatting: {"messages": [message.model_dump()]}, counting: expected}
    assert list(found[chatting]["messages"][0]) == list(message.model_dump())


def test_plain_values__of_channels_that_nothing_was_written_to(
    new_saver: NewSaver, engine: Engine
) -> None:
    thread_id = new_id()
    expected = turns(new_saver, thread_id, 3)
    known = Known(["log", *expected, "last"], {"log": [], **dict.fromkeys(expected, "lost")})

    with engine.begin() as tx:
        found = plain_values(tx, [thread_id], states={thread_id: known})
        unread = plain_values(tx, [new_id()], states={thread_id: known})

    assert found == {thread_id: {"log": [], **expected}}
    assert unread == {}


def test_plain_values__of_a_state_that_is_one_channel(new_saver: NewSaver, engine: Engine) -> None:
    thread_id = new_id()
    graph = StateGraph(int).add_node("n", lambda n: n + 1).add_edge(START, "n").compile()
    graph.copy({"checkpointer": new_saver()}).invoke(1, of(thread_id))
    with engine.begin() as tx:
        assert plain_values(tx, [thread_id], states={thread_id: Known("__root__")}) == {
            thread_id: 2
        }
        assert plain_values(tx, [thread_id], states={}) == {thread_id: 2}
        assert plain_values(tx, [thread_id], states={thread_id: Known(["other"])}) == {
            thread_id: {}
        }
        assert plain_values(tx, [], states={}) == {}
