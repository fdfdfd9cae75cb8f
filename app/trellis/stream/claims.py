"""Who follows a thread hears of each attempt at a run of it: from Redis at once, from Postgres if Redis forgot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from trellis.stream import log
from trellis.stream.entries import Entry, Position, order
from trellis.stream.mux import Mux

#: Attempts that a process remembers of a thread, for whoever joins while others follow it already.
_REMEMBERED = 100


class Attempt(NamedTuple):
    """A claim of a run, or a change of the state by hand: what the thread's generation `fence` belongs to."""

    fence: int
    run_id: str  #: empty: by hand
    graph_id: str
    is_over: bool = False  #: its run is, as Postgres has it
    follows_gap: bool = False  #: others came before it, of which nothing can be told any more


@dataclass(slots=True, eq=False)
class Watch:
    """One follower of a thread: the attempts that it has not taken yet, in their order."""

    key: bytes
    fence: int  #: of the last attempt that it was told of
    taken: int  #: none is to come that is not above it
    heard: list[Attempt] = field(default_factory=list)
    doubts: bool = False  #: an attempt may have been missed
    closed: bool = False
    waiter: asyncio.Future[None] | None = None

    def tell(self, attempts: Iterable[Attempt]) -> None:
        """Hear of attempts, each once, and wake who waits for them."""
        for attempt in attempts:
            if attempt.fence > self.fence:
                self.fence = attempt.fence
                self.heard.append(attempt)
        self._wake()

    @property
    def misses(self) -> bool:
        """Whether the next attempt was heard of before those that come before it, or instead of them."""
        return bool(self.heard) and self.heard[0].fence > self.taken + 1

    def insert(self, attempts: Sequence[Attempt]) -> None:
        """Take in what Postgres has of the attempts before the next one. There are no others."""
        first = self.heard[0].fence
        self.heard[:0] = [each for each in attempts if self.taken < each.fence < first]
        self.taken = self.heard[0].fence - 1

    def take(self) -> Attempt:
        """The next attempt."""
        attempt = self.heard.pop(0)
        self.taken = max(self.taken, attempt.fence)
        return attempt

    def doubt(self) -> None:
        self.doubts = True
        self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    async def change(self, seconds: float) -> None:
        """Wait until something was heard, may have been missed, or is closed; no longer than that."""
        if self.heard or self.doubts or self.closed:
            return
        loop = asyncio.get_running_loop()
        self.waiter = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self.waiter
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


@dataclass(slots=True, eq=False)
class _Thread:
    """The claims of a thread that the mux reads, for all who follow it here."""

    key: bytes
    position: Position = field(default_factory=Position)
    recent: list[Attempt] = field(default_factory=list)
    watches: set[Watch] = field(default_factory=set)

    def deliver(self, entries: Sequence[Entry]) -> None:
        self.position.id = entries[-1][0]
        attempts = [_attempt(entry) for entry in entries]
        self.recent = [*self.recent, *attempts][-_REMEMBERED:]
        for watch in self.watches:
            watch.tell(attempts)


class Claims:
    """The threads that somebody follows in this process."""

    def __init__(self, mux: Mux, *, prefix: str = "") -> None:
        self._mux = mux
        self._prefix = prefix
        self._threads: dict[bytes, _Thread] = {}
        self._closed = False

    def watch(self, tenant_id: str, thread_id: str, *, after: int) -> Watch:
        """Hear of a thread's attempts with a fence above `after`, from now on. To be left with `leave`."""
        key = log.claims_key(self._prefix, tenant_id, thread_id).encode()
        watch = Watch(key, after, after, closed=self._closed)
        thread = self._threads.get(key)
        if thread is None:
            thread = self._threads[key] = _Thread(key)
            self._mux.add(thread)
        watch.tell(thread.recent)
        thread.watches.add(watch)
        return watch

    def leave(self, watch: Watch) -> None:
        """Hear no more."""
        thread = self._threads[watch.key]
        thread.watches.discard(watch)
        if not thread.watches:
            self._mux.remove(thread)
            del self._threads[watch.key]

    def doubt(self) -> None:
        """Redis failed: whoever waits asks Postgres."""
        self._for_all(Watch.doubt)

    def close(self) -> None:
        """Nobody hears anything any more."""
        self._closed = True
        self._for_all(Watch.close)

    def _for_all(self, do: Callable[[Watch], None]) -> None:
        for thread in self._threads.values():
            for watch in thread.watches:
                do(watch)


def _attempt(entry: Entry) -> Attempt:
    entry_id, fields = entry
    return Attempt(order(entry_id)[0], fields[1].decode(), fields[3].decode())


def changed(fence: int) -> Attempt:
    """A change of the state by hand."""
    return Attempt(fence, "", "", is_over=True)
