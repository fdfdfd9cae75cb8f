"""What happens on a thread as events of protocol v2, numbered over all its runs."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from trellis.api.thread_streams import Postgres
from trellis.domain import places
from trellis.domain.places import START, Place
from trellis.errors import Unavailable
from trellis.protocol.subscriptions import Subscription
from trellis.protocol.translate import ProtocolEvent, Translator, envelope
from trellis.stream import sse
from trellis.stream.claims import Attempt
from trellis.stream.entries import Beat, End, Event, Gap, Item
from trellis.stream.feed import Told

#: When what was over has been replayed.
NOTHING = b""
#: Ends for which the state says what was lost.
_WITH_VALUES = ("success", "error")


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How a client gets the stream."""

    event: Callable[[ProtocolEvent, int], bytes]  #: with its number
    told: Callable[[int], bytes]  #: all that happened up to a number, as far as it is wanted
    beat: bytes  #: after each silence
    closing: bytes  #: last


def _as_sse(event: ProtocolEvent, seq: int) -> bytes:
    return sse.event(event.method, envelope(event, seq), b"%d" % seq)


def _as_line(event: ProtocolEvent, seq: int) -> bytes:
    return envelope(event, seq) + b"\n"


SSE = Form(event=_as_sse, told=lambda _: NOTHING, beat=sse.HEARTBEAT, closing=sse.CLOSING)
#: A line is an event, or just a number. The connection has beats of its own.
LINES = Form(event=_as_line, told=lambda seq: b"%d\n" % seq, beat=NOTHING, closing=NOTHING)


async def chunks(
    told: AsyncGenerator[Told, None],
    wanted: Subscription,
    postgres: Postgres,
    *,
    settled: Place,
    form: Form,
) -> AsyncGenerator[bytes, None]:
    """
    The bytes of a thread's protocol stream. What came together is sent together.

    When the runs that were over at the start, up to `settled`, have been replayed, an empty chunk follows.

    :raises Unavailable: the process shuts down.
    """
    run: _Run | None = None
    after = wanted.after
    async with aclosing(told):
        async for attempt, items in told:
            if attempt is None:
                if items:
                    yield form.beat
                else:
                    yield form.told(places.seq(*settled))
                    yield NOTHING
                continue
            if not attempt.run_id:
                continue
            if run is None or run.attempt is not attempt:
                after = after if run is None else max(after, run.place)
                run = _Run(attempt, after, postgres)
            events = [
                form.event(event, places.seq(*place))
                async for event, place in run.events(items)
                if wanted.wants(event)
            ]
            if said := b"".join(events) + form.told(places.seq(*run.place)):
                yield said
            elif any(isinstance(item, Beat) for item in items):
                yield form.beat
    yield form.closing
    raise Unavailable("The server is shutting down")


class _Run:
    """A run as one client is told of it."""

    def __init__(self, attempt: Attempt, after: Place, postgres: Postgres) -> None:
        self.attempt = attempt
        self.place = START
        self._after = after
        self._postgres = postgres
        self._translator = Translator(attempt.run_id, attempt.graph_id)
        self._is_behind = attempt.follows_gap  #: events were lost, and no values came since
        if after.fence == attempt.fence and after.n < places.END:
            # That the run began, the client knows, also if the log does not any more.
            self._translator.feed(Event(b"0-0", "metadata", sse.frame("metadata", b"{}")))

    async def events(self, items: Sequence[Item]) -> AsyncGenerator[tuple[ProtocolEvent, Place]]:
        """The events that the client has not had, and where they stand."""
        for item in items:
            for event, place in await self._told(item):
                if place > self._after:
                    yield event, place

    async def _told(self, item: Item) -> list[tuple[ProtocolEvent, Place]]:
        match item:
            case Event():
                return await self._entry(item)
            case End():
                return await self._end(item)
            case Gap():
                self._is_behind = True
                self._translator.feed(item)
        return []

    async def _entry(self, event: Event) -> list[tuple[ProtocolEvent, Place]]:
        place = Place(event.fence, event.n)
        # Nothing is missing if what was lost came before the client's last event.
        is_next = place.fence == self._after.fence and place.n <= self._after.n + 1
        lost = self._is_behind and not is_next and event.name != "values"
        self._is_behind = False
        before = await self._state(event.fence, event.n - 1) if lost else []
        self.place = place
        return before + _placed(self._translator.feed(event), event.fence, event.n)

    async def _end(self, end: End) -> list[tuple[ProtocolEvent, Place]]:
        if self.attempt.is_over and not end.in_log and self._after == self.place == START:
            return []  # its log is gone, and the client never heard of it
        fence = max(self.place.fence, self.attempt.fence, end.fence)
        at = end.at or _now()
        is_told = end.is_told and not self._is_behind
        before: list[ProtocolEvent] = []
        if (end.values is None or not is_told) and end.status in _WITH_VALUES:
            final = await self._postgres.lost(self.attempt)
            is_paused = end.is_paused or await self._postgres.paused(self.attempt)
            end = End(end.status, final, is_paused=is_paused)
            before = [] if is_told else self._values(final, fence)
        self.place = Place(fence, places.END)
        *events, last = [*before, *self._translator.feed(end, timestamp=at)]
        # A number of its own: who has heard it has heard all, however many come before it.
        return [*_placed(events, fence, places.END), (last, self.place)]

    async def _state(self, fence: int, n: int) -> list[tuple[ProtocolEvent, Place]]:
        return _placed(self._values(await self._postgres.lost(self.attempt), fence), fence, n)

    def _values(self, final: bytes, fence: int) -> list[ProtocolEvent]:
        """The state in the place of events that were lost."""
        if final == b"null" or final.startswith(b'{"__error__":'):
            return []
        entry = Event(b"%d" % _now(), "values", sse.frame("values", final), fence)
        return self._translator.feed(entry)


def _placed(
    events: Iterable[ProtocolEvent], fence: int, n: int
) -> list[tuple[ProtocolEvent, Place]]:
    return [(event, Place(fence, n, k)) for k, event in enumerate(events)]


def _now() -> int:
    return int(time.time() * 1000)
