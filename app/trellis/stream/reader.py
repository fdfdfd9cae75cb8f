"""Follow runs: replay a log after an id, then follow it, and end when Postgres says that the run is final.

A follower is in one of two modes. *Live*: it is fed by the process's one blocked read (`mux`), together
with every other follower of its run. *Behind*: it reads by itself, from its own position: to replay,
to look once more before the end, or because its client is slow. It returns to live when it has caught up.

      start ──"0", first of its run──────────────▶ live ──its buffer is full──▶ behind
        └──an id, "$", or a run that is followed──▶ behind ──read to the end──▶ live
                          live, behind ──Postgres: the run is final──▶ behind ──read to the end──▶ End
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from trellis import telemetry
from trellis.domain.runs import RunState
from trellis.stream import log
from trellis.stream.claims import Claims
from trellis.stream.entries import (
    BEAT,
    GAP,
    Beat,
    End,
    Entry,
    Event,
    Gap,
    Item,
    Position,
    order,
    size,
)
from trellis.stream.mux import Mux

__all__ = ["Beat", "End", "Event", "Gap", "Item", "Reader", "Shows", "Status", "Timing"]

#: Entries of a page: few at first, then as many as the client may have lying here by their size.
_FIRST_PAGE = 16
_LARGEST_PAGE = 500
_CONNECTIONS = 8
_REDIS_ERRORS = (RedisError, OSError)


#: Whether a client gets to see something. What it does not see is no sign of life to it.
Shows = Callable[[Item], bool]

#: Asks Postgres. None: there is no such run.
Status = Callable[[], Awaitable[RunState | None]]


@dataclass(kw_only=True, frozen=True, slots=True)
class Timing:
    """When a follower speaks up, and what it may hold."""

    beat_seconds: float = 5.0
    #: A run that is over and forgotten is noticed after this, not after a whole beat. Longer than most
    #: runs wait for their worker, because each of those would cost a query.
    first_check_seconds: float = 1.0
    #: While Redis is down, Postgres is asked this often, at random between the two.
    down_check_seconds: tuple[float, float] = (1.0, 5.0)
    #: The worker commits the end first and appends it then: how long the log may lag behind.
    end_lag_seconds: float = 0.5
    #: What a slow client may leave lying here before it is on its own.
    max_items: int = 1_000
    max_bytes: int = 1 << 20
    timeout_seconds: float = 2.0


@dataclass(slots=True, eq=False)
class _Follower:
    """One client of one run."""

    run_id: str
    status: Status
    timing: Timing
    after: str
    over: bool = False  #: long since: the log has all that it will have
    position: Position = field(default_factory=Position)  #: only valid behind, or ahead of the feed
    feed: _Feed | None = None  #: None: behind
    ahead: bool = False  #: has read further than its feed
    buffer: list[Item] = field(default_factory=list)
    buffered_bytes: int = 0
    page: int = _FIRST_PAGE
    silent_since: float = 0.0
    heard: bool = False  #: anything at all
    shows: Shows | None = None  #: None: everything
    hidden: bool = False  #: something happened, since the last beat, that was not shown
    beat: bool = False
    ended: bool = False
    closed: bool = False
    final: End | None = None  #: Postgres says so; the log may still have something to tell
    final_at: float = 0.0
    ask_at: float = 0.0
    waiter: asyncio.Future[None] | None = None
    timer: asyncio.TimerHandle | None = None
    asking: asyncio.Task[None] | None = None
    reading: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        return (
            len(self.buffer) > self.timing.max_items or self.buffered_bytes > self.timing.max_bytes
        )

    def put(self, items: Sequence[Item], held: int) -> None:
        if not items or self.ended:
            return
        self.heard = True
        if self.shows is not None:
            shown = [item for item in items if self.shows(item)]
            self.hidden |= len(shown) < len(items)
            items, held = shown, size(shown)
        if items:
            self.buffer += items
            self.buffered_bytes += held
            self.ended = isinstance(items[-1], End)
            self.wake()

    def take(self, now: float) -> list[Item]:
        """Everything that waits, or the beat that is due."""
        items, self.buffer, self.buffered_bytes = self.buffer, [], 0
        if not items and self.beat and not self.ended:
            items = [BEAT]
        if items:
            self.silent_since, self.beat = now, False
        return items

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def woken(self) -> None:
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter


@dataclass(slots=True, eq=False)
class _Feed:
    """A log that the mux reads, for all live followers of one run."""

    key: bytes
    position: Position
    mux: Mux
    followers: set[_Follower] = field(default_factory=set)

    def deliver(self, entries: Sequence[Entry]) -> None:
        items = self.position.advance(entries)
        held = size(items)
        for follower in tuple(self.followers):
            if follower.ahead:
                seen = follower.position.order
                unseen = [entry for entry in entries if order(entry[0]) > seen]
                fresh = follower.position.advance(unseen)
                follower.put(fresh, size(fresh))
                follower.ahead = follower.position.order > self.position.order
            else:
                follower.put(items, held)
            if follower.full or follower.ended:
                self.remove(follower)

    def remove(self, follower: _Follower) -> None:
        """Let a follower go on by itself, from where the feed is."""
        self.followers.discard(follower)
        if not follower.ahead:
            follower.position = self.position.copy()
        follower.feed, follower.ahead = None, False
        if not self.followers:
            self.mux.remove(self)


class Reader:
    """All followers of one web process, on one event loop."""

    def __init__(self, redis_url: str, *, prefix: str = "", timing: Timing | None = None) -> None:
        self._prefix = prefix
        self._timing = timing or Timing()
        self._redis = log.connect(
            redis_url, max_connections=_CONNECTIONS, timeout_seconds=self._timing.timeout_seconds
        )
        self._mux = Mux(redis_url, self._redis, on_down=self._redis_is_down)
        self._feeds: dict[str, _Feed] = {}
        self._followers: set[_Follower] = set()
        #: The attempts of threads, for who follows a thread.
        self.claims = Claims(self._mux, prefix=prefix)
        # One connection stays free to wake the mux.
        self._turns = asyncio.Semaphore(_CONNECTIONS - 1)
        self._closed = False
        #: How often clients missed events, since the process began.
        self.gaps = 0

    @property
    def followers(self) -> int:
        """How many streams are open."""
        return len(self._followers)

    @property
    def behind(self) -> int:
        """How many of them read by themselves: they replay, or their clients are slow."""
        return sum(follower.feed is None for follower in tuple(self._followers))

    @property
    def waiting_bytes(self) -> int:
        """What waits here for clients to take it."""
        return sum(follower.buffered_bytes for follower in tuple(self._followers))

    @property
    def is_closed(self) -> bool:
        """Whether its streams end because the process does."""
        return self._closed

    async def close(self) -> None:
        """End every stream, without an End, and disconnect."""
        self._closed = True
        self.claims.close()
        for follower in tuple(self._followers):
            follower.closed = True
            follower.wake()
            self._leave(follower)
        await self._mux.close()
        await self._redis.aclose()

    async def follow(
        self, run_id: str, *, after: str = "0", status: Status
    ) -> AsyncGenerator[Item, None]:
        """Yield what happens in a run, one by one; see `batches`."""
        async with aclosing(self.batches(run_id, after=after, status=status)) as batches:
            async for items in batches:
                for item in items:
                    yield item

    async def batches(
        self,
        run_id: str,
        *,
        after: str = "0",
        status: Status,
        shows: Shows | None = None,
        is_over: bool = False,
    ) -> AsyncGenerator[list[Item], None]:
        """
        Yield what happened in a run since the last time, from its start on and up to its End.

        `after` is an event id, "0" for the start, or "$" for what happens from now on. The last item
        is an End, unless the process shuts down. A client that is slow to take a batch finds a
        larger one next, and is told of a Gap if Redis could not keep what it missed. Only what it `shows` is
        yielded, and the beats are those of a client that hears nothing else. Of a run that has been over for some
        seconds the log is read at once, and nothing waited for.
        """
        loop = asyncio.get_running_loop()
        follower = self._join(run_id, after, status, is_over=is_over)
        follower.shows = shows
        try:
            while not follower.closed:
                if items := follower.take(loop.time()):
                    if follower.feed is None and not follower.ended:
                        self._read_on(follower)
                    self.gaps += items.count(GAP)
                    yield items
                elif follower.ended:
                    return
                else:
                    await follower.woken()
        finally:
            self._leave(follower)

    def _join(self, run_id: str, after: str, status: Status, *, is_over: bool = False) -> _Follower:
        loop = asyncio.get_running_loop()
        follower = _Follower(run_id, status, self._timing, after, is_over, closed=self._closed)
        follower.silent_since = loop.time()
        self._followers.add(follower)
        first = 0.0
        if after in ("0", "0-0") and not is_over:
            follower.after = "0"
            self._attach_or_read(follower)
            first = self._timing.first_check_seconds
        else:
            self._read_on(follower)
        follower.timer = loop.call_later(first, self._tick, follower)
        return follower

    def _attach_or_read(self, follower: _Follower) -> None:
        if not self._attach(follower):
            self._read_on(follower)

    def _leave(self, follower: _Follower) -> None:
        self._followers.discard(follower)
        self._detach(follower)
        if follower.timer is not None:
            follower.timer.cancel()
        for task in (follower.asking, follower.reading):
            if task is not None:
                task.cancel()

    def _attach(self, follower: _Follower) -> bool:
        """Make it live. False: its feed has read further than itself."""
        feed = self._feeds.get(follower.run_id)
        if feed is None or not feed.followers:
            key = log.stream_key(self._prefix, follower.run_id).encode()
            feed = _Feed(key, follower.position.copy(), self._mux)
            self._feeds[follower.run_id] = feed
            self._mux.add(feed)
        elif follower.position.order < feed.position.order:
            return False
        follower.ahead = follower.position.order > feed.position.order
        follower.feed = feed
        feed.followers.add(follower)
        return True

    def _detach(self, follower: _Follower) -> None:
        if follower.feed is not None:
            follower.feed.remove(follower)
        feed = self._feeds.get(follower.run_id)
        if feed is not None and not feed.followers:
            del self._feeds[follower.run_id]

    def _tick(self, follower: _Follower) -> None:
        """The follower's one timer: beats, and asks Postgres, after each silence."""
        loop = asyncio.get_running_loop()
        due = follower.silent_since + self._timing.beat_seconds
        if loop.time() >= due - 0.001:
            follower.beat = True
            follower.wake()
            due = loop.time() + self._timing.beat_seconds
            if not follower.hidden:
                self._ask(follower)
            follower.hidden = False
        elif not follower.heard or follower.after != "0":
            self._ask(follower)
        follower.timer = loop.call_at(due, self._tick, follower)

    @property
    def beat_seconds(self) -> float:
        """After which silence a client is shown that the connection lives."""
        return self._timing.beat_seconds

    def _redis_is_down(self) -> None:
        self.claims.doubt()
        for follower in self._followers:
            self._ask_while_down(follower)

    def _ask_while_down(self, follower: _Follower) -> None:
        """Ask Postgres every now and then; not for all streams in the same moment."""
        loop = asyncio.get_running_loop()
        if loop.time() >= follower.ask_at:
            low, high = self._timing.down_check_seconds
            follower.ask_at = loop.time() + random.uniform(low, high)
            loop.call_later(random.uniform(0, low), self._ask, follower)

    def _ask(self, follower: _Follower) -> None:
        if follower.final is not None or follower not in self._followers:
            return
        if follower.asking is None or follower.asking.done():
            loop = asyncio.get_running_loop()
            follower.asking = loop.create_task(self._check(follower))

    async def _check(self, follower: _Follower) -> None:
        """Ask Postgres. A run that is final is read to the end of its log once more, then ended."""
        try:
            state = await follower.status()
        except (
            Exception
        ) as error:  # the caller's database: it is asked again after the next silence
            telemetry.log().debug(
                telemetry.STREAM_READER_FAILED, run_id=follower.run_id, error=str(error)
            )
            return
        if state is not None and not state.is_over:
            return
        follower.final = End(None if state is None else state.status, None, in_log=False)
        follower.final_at = asyncio.get_running_loop().time()
        self._detach(follower)
        self._read_on(follower)

    def _read_on(self, follower: _Follower) -> None:
        """Let a follower that is behind read by itself, unless it does or has enough to do."""
        if follower.full or follower.ended or follower.closed:
            return
        if follower.reading is None or follower.reading.done():
            follower.reading = asyncio.get_running_loop().create_task(self._catch_up(follower))

    async def _catch_up(self, follower: _Follower) -> None:
        while not (follower.full or follower.ended or follower.closed):
            try:
                complete = await self._read_page(follower)
            except _REDIS_ERRORS:
                if follower.final is not None:
                    follower.put([follower.final], 0)
                    return
                self._ask_while_down(follower)
                await asyncio.sleep(random.uniform(0.2, 1.0))
                continue
            if not complete or follower.ended:
                continue
            if follower.final is None:
                if self._attach(follower):
                    return
            elif self._log_had_its_time(follower):
                follower.put([follower.final], 0)
            else:
                await asyncio.sleep(0.05)

    def _log_had_its_time(self, follower: _Follower) -> bool:
        if follower.over:
            return True
        waited = asyncio.get_running_loop().time() - follower.final_at
        return waited >= self._timing.end_lag_seconds

    async def _read_page(self, follower: _Follower) -> bool:
        """Read a page of the log. True: there was no more."""
        key = log.stream_key(self._prefix, follower.run_id)
        after = follower.after
        if after == "$":
            entries = await self._range("XREVRANGE", key, "+", "-", "COUNT", 1)
            items = _from_now(follower.position, entries)
        elif after != "0":
            entries = await self._range("XRANGE", key, after, "+", "COUNT", follower.page)
            items = _from_id(follower.position, entries, after)
        else:
            start = b"(" + follower.position.id
            entries = await self._range("XRANGE", key, start, "+", "COUNT", follower.page)
            items = follower.position.advance(entries)
        follower.after = "0"
        held, complete = size(items), len(entries) < follower.page
        follower.put(items, held)
        if held:
            # Two at the least: the first may be one that the client has.
            fitting = self._timing.max_bytes * len(items) // held
            follower.page = min(max(fitting, 2), _LARGEST_PAGE)
        return complete

    async def _range(self, *command: str | bytes | int) -> list[Entry]:
        async with self._turns:
            entries: list[Entry] = await log.execute(self._redis, *command)
        return entries


def _from_now(position: Position, entries: Sequence[Entry]) -> list[Item]:
    """Stand at the last entry, unless it is the end itself."""
    position.n = None
    items = position.advance(entries)
    return [item for item in items if isinstance(item, End)]


def _from_id(position: Position, entries: Sequence[Entry], after: str) -> list[Item]:
    """Go on after an entry. If it is not there any more, what followed it may be gone as well."""
    position.id = after.encode()
    if not entries:
        return []
    asked = position.order
    position.n = None
    if Position(entries[0][0]).order != asked:
        return [GAP, *position.advance(entries)]
    position.advance(entries[:1])
    return position.advance(entries[1:])
