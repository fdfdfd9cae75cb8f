"""Keeping operations going, and counting what failed."""

import asyncio

import pytest

from benchmarks.load import TOO_MANY_ERRORS, paced, pump


async def nothing() -> None:
    """Succeed at once."""


async def failing() -> None:
    raise ValueError("no")


def test_pump__does_the_count_and_no_more():
    load = asyncio.run(pump(nothing, concurrency=7, count=20))

    assert len(load.seconds) == 20
    assert load.rate > 0


def test_pump__keeps_that_many_going():
    going, most = 0, 0

    async def operation() -> None:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0.001)
        going -= 1

    asyncio.run(pump(operation, concurrency=5, count=25))

    assert most == 5


def test_pump__ends_with_its_time():
    load = asyncio.run(pump(lambda: asyncio.sleep(0.01), concurrency=1, count=10_000, seconds=0.05))

    assert 1 <= len(load.seconds) < 10_000


def test_pump__counts_errors_apart():
    load = asyncio.run(pump(failing, concurrency=1, count=3))

    assert load.errors == ["ValueError: no"] * 3
    assert load.seconds == []
    assert load.rate == 0


def test_pump__gives_up_on_a_broken_side():
    load = asyncio.run(pump(failing, concurrency=1, count=10_000))

    assert len(load.errors) == TOO_MANY_ERRORS


def test_paced__does_not_wait_for_a_stalled_answer():
    async def run() -> None:
        release = asyncio.Event()
        asked = 0

        async def stalled() -> None:
            nonlocal asked
            asked += 1
            if asked == 10:
                release.set()
            await release.wait()

        load = await paced(stalled, per_second=200, seconds=0.05)

        assert len(load.seconds) == 10
        assert max(load.seconds) == pytest.approx(0.045, abs=0.04)

    asyncio.run(asyncio.wait_for(run(), 10))
