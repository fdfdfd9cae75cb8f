"""One connection of our own: what becomes of a command whose asker leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from trellis.stream import log

pytestmark = pytest.mark.anyio

Ask = Callable[..., Coroutine[Any, Any, Any]]
WAIT = ("BLPOP", "nothing", 30)


@asynccontextmanager
async def line(url: str) -> AsyncIterator[Ask]:
    line = log.Line(url, timeout_seconds=30)
    try:
        await line.ask(("PING",))
        yield line.ask
    finally:
        await line.disconnect()


@asynccontextmanager
async def pooled(url: str) -> AsyncIterator[Ask]:
    async with aclosing(log.connect(url, max_connections=1, timeout_seconds=30)) as client:
        await log.execute(client, "PING")
        yield lambda command: log.execute(client, *command)


@pytest.mark.parametrize("connected", [line, pooled])
async def test_ask__can_be_cancelled_at_every_moment(connected: Any, redis_url: str) -> None:
    for turns in range(20):
        async with connected(redis_url) as ask:
            asking = asyncio.create_task(ask(WAIT))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            done, _ = await asyncio.wait({asking}, timeout=10)
            assert done, turns
            assert asking.cancelled()


async def test_execute__in_time(redis_url: str) -> None:
    async with aclosing(log.connect(redis_url, max_connections=1, timeout_seconds=0.1)) as client:
        with pytest.raises(TimeoutError):
            await log.execute(client, *WAIT)
