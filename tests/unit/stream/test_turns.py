from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from trellis.stream.turns import Turns


@pytest.fixture
def turns() -> Turns:
    return Turns(patience=60)


@pytest.fixture
def said() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def say(turns: Turns, said: list[tuple[str, int]]) -> Callable[..., asyncio.Task[None]]:
    """A stream says numbers, one after the other, and then that it is through with the last one."""

    async def all_of(stream: str, seqs: tuple[int, ...]) -> None:
        for seq in seqs:
            await turns.take(stream, seq)
            said.append((stream, seq))
        turns.move(stream, seqs[-1] + 1)

    return lambda stream, *seqs: asyncio.create_task(all_of(stream, seqs))


Say = Callable[..., asyncio.Task[None]]


async def settle() -> None:
    """Let everybody go as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_take__alone(say: Say, said: list[tuple[str, int]]) -> None:
    async def use() -> None:
        await say("a", 1, 5, 9)

    asyncio.run(use())
    assert said == [("a", 1), ("a", 5), ("a", 9)]


def test_take__in_one_order(turns: Turns, say: Say, said: list[tuple[str, int]]) -> None:
    async def use() -> None:
        turns.move("a", 0)
        turns.move("b", 0)
        one = say("a", 1, 4, 9)
        await settle()
        assert said == []
        await say("b", 2, 3, 9, 10)
        await one

    asyncio.run(use())
    assert [seq for _, seq in said] == [1, 2, 3, 4, 9, 9, 10]


def test_take__waits_for_one_that_has_yet_to_come(
    turns: Turns, say: Say, said: list[tuple[str, int]]
) -> None:
    async def use() -> None:
        turns.move("b", 0)
        one = say("a", 1)
        await settle()
        assert said == []
        turns.leave("b")
        await one

    asyncio.run(use())
    assert said == [("a", 1)]


def test_take__not_for_one_that_is_through(
    turns: Turns, say: Say, said: list[tuple[str, int]]
) -> None:
    async def use() -> None:
        turns.move("b", 8)
        # It stays so, whatever it hears later of what is older.
        turns.move("b", 2)
        await say("a", 7, 8)
        one = say("a", 9)
        await settle()
        turns.move("b", 9)
        await one

    asyncio.run(use())
    assert [seq for _, seq in said] == [7, 8, 9]


def test_take__not_for_ever() -> None:
    async def use() -> None:
        turns = Turns(patience=0.01)
        turns.move("silent", 0)
        await turns.take("a", 1)
        # Until it says something, it is not waited for again.
        async with asyncio.timeout(0):
            await turns.take("a", 2)
        turns.move("silent", 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await turns.take("a", 3)

    asyncio.run(use())


def test_take__for_as_long_as_another_one_speaks() -> None:
    async def use() -> None:
        turns = Turns(patience=0.01)
        await turns.take("slow", 1)

        following = asyncio.create_task(turns.take("a", 2))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(following), 0.2)
        turns.move("slow", 2)
        await following

    asyncio.run(use())
