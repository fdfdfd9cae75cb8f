"""What happens on a thread as server-sent events: its runs' own events, and where each of them begins and ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

import orjson

from trellis.api.streaming import SILENT, snapshot, wanted_modes
from trellis.domain import places
from trellis.domain.places import START, Place
from trellis.errors import Invalid, Unavailable
from trellis.stream import sse
from trellis.stream.claims import Attempt
from trellis.stream.entries import Beat, End, Event, Gap, Item
from trellis.stream.feed import Told

#: What a client can ask for: every event of the runs, only their starts and ends, the state whenever it has changed.
THREAD_MODES = ("run_modes", "lifecycle", "state_update")

NOT_FOUND = sse.event("error", b'{"error":"HTTPException","message":"404: Thread not found"}')


@dataclass(frozen=True, kw_only=True, slots=True)
class Postgres:
    """What is read from there."""

    #: What stands for a run's events that were lost, as JSON.
    lost: Callable[[Attempt], Awaitable[bytes]]
    #: Whether the thread waits at a node where the run has left it.
    paused: Callable[[Attempt], Awaitable[bool]]
    state: Callable[[], Awaitable[bytes]]  #: the values of the thread's state, as JSON


def wanted(given: Iterable[str]) -> frozenset[str]:
    """
    The modes of the parameters: one, repeated, separated by commas, or a JSON list. None named means run_modes.

    :raises Invalid: there is no such mode.
    """
    named = wanted_modes(given) or frozenset({"run_modes"})
    modes = frozenset(mode for each in named for mode in each.split(","))
    if unknown := sorted(modes.difference(THREAD_MODES)):
        raise Invalid(
            f"Unknown stream mode of a thread: {unknown[0][:40]!r}. Expected: {', '.join(THREAD_MODES)}"
        )
    return modes


async def chunks(
    told: AsyncGenerator[Told, None],
    *,
    after: Place,
    modes: frozenset[str],
    postgres: Postgres,
) -> AsyncGenerator[bytes, None]:
    """
    The bytes of a thread's event stream. What came together is sent together.

    :raises Unavailable: the process shuts down.
    """
    run: _Run | None = None
    async with aclosing(told):
        async for attempt, items in told:
            if attempt is None:
                if items:
                    yield sse.HEARTBEAT
                continue
            if not attempt.run_id:
                if "state_update" in modes:
                    yield _state(await postgres.state(), attempt.fence)
                continue
            if run is None or run.attempt is not attempt:
                after = after if run is None else max(after, run.place)
                run = _Run(attempt, after, modes, is_behind=attempt.follows_gap)
            if frames := b"".join(run.frame(item) for item in items):
                yield frames
            if run.lacks_values():
                yield snapshot(await postgres.lost(attempt), has_values=True)
            if run.ended is not None and not run.is_forgotten:
                if "state_update" in modes:
                    yield _state(await postgres.state(), run.last_fence)
                if last := run.end():
                    yield last
    yield sse.CLOSING
    raise Unavailable("The server is shutting down")


def _state(values: bytes, fence: int) -> bytes:
    return sse.event("state_update", values, places.event_id(fence, places.END))


@dataclass(slots=True)
class _Run:
    """What a client has been told of a run."""

    attempt: Attempt
    after: Place
    modes: frozenset[str]
    place: Place = START
    is_behind: bool = False  #: events were lost, and no values came since
    has_failed: bool = False
    ended: End | None = None

    def frame(self, item: Item) -> bytes:
        match item:
            case Event():
                return self._event(item)
            case Gap():
                self.is_behind = True
            case End():
                self.ended = item
            case Beat():
                return sse.HEARTBEAT
        return b""

    def _event(self, event: Event) -> bytes:
        place = Place(event.fence, event.n)
        # Nothing is missing if what was lost came before the client's last event.
        is_next = place.fence == self.after.fence and place.n <= self.after.n + 1
        self.is_behind &= event.name != "values" and not is_next
        self.has_failed |= event.name == "error"
        self.place = place
        is_wanted = "run_modes" in self.modes or (
            event.name == "metadata" and "lifecycle" in self.modes
        )
        if place <= self.after or not is_wanted:
            return b""
        return sse.closed(event.frame, places.event_id(event.fence, event.n))

    def lacks_values(self) -> bool:
        """Whether the state must be sent in the place of what was lost. To be asked once for each portion."""
        if "run_modes" not in self.modes or self.has_failed:
            return False
        if self.ended is None:
            misses, self.is_behind = self.is_behind, False
            return misses
        is_untold = not self.ended.is_told or self.is_behind
        return is_untold and self.ended.status not in SILENT and not self.is_forgotten

    def end(self) -> bytes:
        """The last event of a run, for whoever wants it."""
        self.place = Place(self.last_fence, places.END)
        if self.modes == {"state_update"}:
            return b""
        data = orjson.dumps({"status": "run_done", "run_id": self.attempt.run_id})
        return sse.event("metadata", data, places.event_id(*self.place[:2]))

    @property
    def last_fence(self) -> int:
        """The generation of its last attempt."""
        told = 0 if self.ended is None else self.ended.fence
        return max(self.place.fence, self.attempt.fence, told)

    @property
    def is_forgotten(self) -> bool:
        """Whether its log is gone, and the client never heard of it."""
        in_log = self.ended is not None and self.ended.in_log
        return self.attempt.is_over and not in_log and self.after == self.place == START
