"""One blocked XREAD over all the logs that somebody in this process follows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from trellis import telemetry
from trellis.stream import log
from trellis.stream.entries import Entry, Position

#: Also bounds how long a half-open connection goes unnoticed, together with the timeout below.
_BLOCK_MS = 5_000
_READ_TIMEOUT_SECONDS = 7.0
#: Where the server does not let us unblock a reader, a new follower waits this long at most.
_BLOCK_MS_WITHOUT_UNBLOCK = 100
#: Blocking on a key costs Redis about a microsecond, each time; with thousands of keys, reading after
#: every single event would keep Redis from everything else. Nothing is added while events are rare.
_PAUSE_SECONDS_PER_KEY = 5e-6
_ENTRIES_PER_READ = 4_096
#: What an answer may hold, about: entries are states of any size, and they are all here before one is passed on.
_BYTES_PER_READ = 8 << 20


class Feed(Protocol):
    """A log to read, and what to do with it."""

    key: bytes
    position: Position

    def deliver(self, entries: Sequence[Entry]) -> None: ...


class Mux:
    """Reads all feeds with one connection; `control` belongs to the caller and wakes it."""

    def __init__(self, redis_url: str, control: Redis, *, on_down: Callable[[], None]) -> None:
        self._line = log.Line(redis_url, timeout_seconds=_READ_TIMEOUT_SECONDS)
        self._control = control
        self._on_down = on_down
        self._client_id = 0
        self._feeds: dict[bytes, Feed] = {}
        self._wanted = asyncio.Event()
        self._reading = False
        self._joined = False
        self._issued_at = 0.0
        self._entry_bytes = 1  #: the mean of the last answer
        self._block_ms = _BLOCK_MS
        self._task: asyncio.Task[None] | None = None
        self._unblocking: asyncio.Task[None] | None = None

    def add(self, feed: Feed) -> None:
        """Read this log too, from now on."""
        self._feeds[feed.key] = feed
        self._joined = True
        self._wanted.set()
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._run())
        elif self._reading and (self._unblocking is None or self._unblocking.done()):
            self._unblocking = loop.create_task(self._unblock())

    def remove(self, feed: Feed) -> None:
        """Read it no more. The read under way may still deliver to it."""
        if self._feeds.get(feed.key) is feed:
            del self._feeds[feed.key]
        if not self._feeds:
            self._wanted.clear()

    async def close(self) -> None:
        """Read no more, and give the connection back."""
        tasks = {task for task in (self._task, self._unblocking) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._line.disconnect()

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._wanted.wait()
            try:
                await self._read()
                failures = 0
            except (
                Exception
            ) as error:  # whatever it was, all streams of this process depend on the next read
                if failures == 0:
                    self._report(error)
                failures += 1
                self._on_down()
                await self._line.disconnect()
                await asyncio.sleep(min(2.0, 0.05 * 2.0**failures) * random.uniform(0.5, 1))

    async def _read(self) -> None:
        if not self._line.is_open:
            await self._get_known()
        await self._pause()
        feeds = list(self._feeds.values())
        if not feeds:
            return
        self._joined = False
        self._reading = True
        try:
            (answer,) = await self._line.ask(self._command(feeds))
        finally:
            self._reading = False
        if isinstance(answer, Exception):
            raise answer
        by_key = {feed.key: feed for feed in feeds}
        for key, entries in answer or ():
            by_key[key].deliver(entries)
        self._entry_bytes = _mean_bytes(answer or ())

    async def _get_known(self) -> None:
        """Learn by which id to unblock this connection, and whether that is allowed here."""
        (client_id,) = await self._line.ask(("CLIENT", "ID"))
        (answer,) = await self._line.ask(("CLIENT", "UNBLOCK", client_id))
        if isinstance(answer, ResponseError):
            telemetry.log().warning(telemetry.STREAM_UNBLOCK_REFUSED, error=str(answer))
            self._block_ms = _BLOCK_MS_WITHOUT_UNBLOCK
        else:
            self._client_id, self._block_ms = client_id, _BLOCK_MS

    def _command(self, feeds: Sequence[Feed]) -> tuple[str | bytes | int, ...]:
        count = min(500, max(16, _ENTRIES_PER_READ // len(feeds)))
        count = min(count, max(1, _BYTES_PER_READ // (self._entry_bytes * len(feeds))))
        keys = [feed.key for feed in feeds]
        after = [feed.position.id for feed in feeds]
        return ("XREAD", "COUNT", count, "BLOCK", self._block_ms, "STREAMS", *keys, *after)

    async def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        wait = self._issued_at + len(self._feeds) * _PAUSE_SECONDS_PER_KEY - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        self._issued_at = loop.time()

    async def _unblock(self) -> None:
        """Wake the blocked read, so that it begins again with the feeds that joined meanwhile."""
        while self._reading and self._joined and self._block_ms == _BLOCK_MS:
            try:
                await log.execute(self._control, "CLIENT", "UNBLOCK", self._client_id)
            except (RedisError, OSError):
                return
            # The command may overtake the read that it is to end: look again until that read has ended.
            await asyncio.sleep(0.001)

    def _report(self, error: Exception) -> None:
        if isinstance(error, RedisError | OSError):
            telemetry.log().warning(telemetry.STREAM_REDIS_DOWN, error=str(error))
        else:
            telemetry.log().error(telemetry.STREAM_READER_FAILED, exc_info=error)


def _mean_bytes(answer: Sequence[tuple[bytes, Sequence[Entry]]]) -> int:
    sizes = [sum(map(len, fields)) for _, entries in answer for _, fields in entries]
    return max(1, sum(sizes) // max(1, len(sizes)))
