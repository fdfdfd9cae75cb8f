from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from trellis.dev.embedded import Server, start_valkey
from trellis.domain.runs import Claim, RunState, RunStatus
from trellis.stream.reader import End, Event, Item, Reader, Timing
from trellis.stream.writer import EventWriter, Limits

#: As in production, but for a test's patience.
QUICK = Timing(
    beat_seconds=0.3, first_check_seconds=0.05, down_check_seconds=(0.1, 0.2), end_lag_seconds=0.2
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@dataclass
class Run:
    """What Postgres would say of a run."""

    status: RunStatus
    asked: int = 0

    async def __call__(self) -> RunState:
        self.asked += 1
        return RunState(status=self.status, fence=1, error=None)


@pytest.fixture
def running() -> Run:
    return Run(RunStatus.RUNNING)


@pytest.fixture
async def new_writer(
    redis_url: str, anyio_backend: object
) -> AsyncIterator[Callable[[Limits], EventWriter]]:
    async with AsyncExitStack() as stack:

        def make(limits: Limits) -> EventWriter:
            writer = EventWriter(redis_url, prefix="t:", limits=limits)
            stack.push_async_callback(writer.close)
            return writer

        yield make


@pytest.fixture
def writer(new_writer: Callable[[Limits], EventWriter]) -> EventWriter:
    return new_writer(Limits())


@pytest.fixture
async def reader(redis_url: str, anyio_backend: object) -> AsyncIterator[Reader]:
    reader = Reader(redis_url, prefix="t:", timing=QUICK)
    yield reader
    assert reader.followers == 0
    await reader.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may stop, freeze and kill."""
    server = start_valkey(tmp_path / "valkey")
    yield server
    server.stop()


def claim(run_id: str = "r1", *, fence: int = 1, attempt: int = 1) -> Claim:
    return Claim(run_id=run_id, thread_id="t1", fence=fence, attempt=attempt)


def data(items: list[Item]) -> list[str]:
    """The items, readable."""
    return [
        item.frame.split(b"data: ")[1].decode().strip()
        if isinstance(item, Event)
        else f"End {item.status}"
        if isinstance(item, End)
        else type(item).__name__
        for item in items
    ]


async def collect(reader: Reader, run: Run, *, run_id: str = "r1", after: str = "0") -> list[Item]:
    """Follow a run to its end, without the beats."""
    async with asyncio.timeout(20):
        return [
            item
            async for item in reader.follow(run_id, after=after, status=run)
            if type(item).__name__ != "Beat"
        ]


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Let the loop run until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)
