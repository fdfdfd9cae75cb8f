"""Many followers, few looks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from trellis.domain.runs import RunState, RunStatus
from trellis.stream.states import States

RUNNING = RunState(status=RunStatus.RUNNING, fence=1)


class Database:
    """Knows what runs; each look waits until it may."""

    def __init__(self) -> None:
        self.running = {"a", "b"}
        self.looks: list[list[str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def look(self, run_ids: Sequence[str]) -> dict[str, RunState]:
        self.looks.append(list(run_ids))
        found = {run_id: RUNNING for run_id in run_ids if run_id in self.running}
        assert self.may_answer.wait(10)
        if "broken" in run_ids:
            raise OSError("no database")
        return found


@pytest.fixture
def database() -> Database:
    return Database()


def test_active__many_ask_at_once(database: Database) -> None:
    async def ask() -> list[RunState | None]:
        states = States(database.look)
        return await asyncio.gather(*map(states.active, ["a", "b", "over", "a"]))

    assert asyncio.run(ask()) == [RUNNING, RUNNING, None, RUNNING]
    assert database.looks == [["a", "b", "over"]]


def test_active__what_is_asked_during_a_look_is_looked_up_after_it(database: Database) -> None:
    """An answer is never older than its question."""

    async def ask() -> tuple[RunState | None, RunState | None]:
        states = States(database.look)
        database.may_answer.clear()
        first = asyncio.ensure_future(states.active("a"))
        while not database.looks:
            await asyncio.sleep(0)
        database.running.clear()
        second = asyncio.ensure_future(states.active("a"))
        await asyncio.sleep(0)
        database.may_answer.set()
        return await first, await second

    assert asyncio.run(ask()) == (RUNNING, None)
    assert database.looks == [["a"], ["a"]]


def test_active__one_who_leaves_takes_nobody_along(database: Database) -> None:
    async def ask() -> RunState | None:
        states = States(database.look)
        leaver, other = (asyncio.ensure_future(states.active("a")) for _ in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
        return await other

    assert asyncio.run(ask()) == RUNNING


def test_active__a_look_that_fails(database: Database) -> None:
    async def ask() -> RunState | None:
        states = States(database.look)
        with pytest.raises(OSError, match="no database"):
            await states.active("broken")
        return await states.active("a")

    assert asyncio.run(ask()) == RUNNING
