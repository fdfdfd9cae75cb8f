"""
In which order, when, and how often the subscriptions of a WebSocket are told of events.

On a loop whose clock goes straight to whatever comes next: times are exact, and nobody waits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from flask import Response

from trellis.api import sockets
from trellis.api.bodies import AsyncBody
from trellis.domain import places
from trellis.protocol.translate import ProtocolEvent, envelope

#: When, and what: from the route that streams events, or from the client.
Timed = tuple[float, bytes]

BEGIN, STATE = places.seq(1, 1, 0), places.seq(1, 2, 0)
END = places.seq(1, places.END, 0)
LIVE = b""


class Clock(asyncio.SelectorEventLoop):
    """A loop that waits for nothing."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # asyncio's own
        due = [each.when() for each in timers if not each.cancelled()]
        if due and not self._ready:  # type: ignore[attr-defined]  # likewise
            self._now = max(self._now, min(due))
        super()._run_once()  # type: ignore[misc]  # likewise


def event(seq: int, method: str = "values", data: bytes = b"{}") -> bytes:
    return envelope(ProtocolEvent(method, (), 0, data, f"e{seq}"), seq) + b"\n"


def subscribe(n: int) -> bytes:
    """Subscribe to the n-th of the streams."""
    params = {"channels": [str(n)]}
    return json.dumps({"id": n, "method": "subscription.subscribe", "params": params}).encode()


def played(streams: Sequence[Sequence[Timed]], said: Sequence[Timed]) -> list[tuple[float, Any]]:
    """What a client gets, and when, that says something of its own, of streams that say things."""
    loop, heard, left = Clock(), list[tuple[float, Any]](), list(said)

    async def until(at: float) -> None:
        await asyncio.sleep(max(0.0, at - loop.time()))

    async def chunks(stream: Sequence[Timed]) -> AsyncGenerator[bytes, None]:
        for at, chunk in stream:
            await until(at)
            yield chunk
        await asyncio.sleep(1000)

    async def ask(path: str, body: bytes) -> Response:
        if path.endswith("/commands"):
            return Response('{"detail": "Not Found"}', 404, mimetype="application/json")
        channel = json.loads(body)["channels"][0]
        return Response(AsyncBody(chunks(streams[int(channel)] if channel.isdigit() else [])))

    async def receive() -> dict[str, Any]:
        if not heard:
            return {"type": "websocket.connect"}
        if not left:
            await until(100)
            return {"type": "websocket.disconnect"}
        at, frame = left.pop(0)
        await until(at)
        return {"type": "websocket.receive", "text": frame.decode()}

    async def send(message: Any) -> None:
        heard.append((loop.time(), json.loads(message.get("text", "{}"))))

    try:
        loop.run_until_complete(sockets.converse("/threads/t", receive, send, ask))
    finally:
        loop.close()
    return [(at, told.get("seq", told.get("id"))) for at, told in heard if told]


PAST = [(0.0, event(BEGIN)), (0.0, event(END)), (0.0, LIVE)]


def test_command__of_a_route_that_is_switched_off() -> None:
    """The client finds the answer by the command's id."""
    assert played([], [(0.0, b'{"id": 7, "method": "run.start"}')]) == [(0.0, 7)]


def test_end__waits_for_company() -> None:
    """A client's second subscription comes when the first has been answered: a run's end must not come before."""
    states = [(0.0, event(STATE)), (0.0, event(END)), (0.0, LIVE)]

    told = played([PAST, states], [(0.0, subscribe(0)), (0.2, subscribe(1))])

    assert told == [(0.0, 0), (0.0, BEGIN), (0.2, 1), (0.2, STATE), (0.25, END)]


def test_end__does_not_wait_for_ever() -> None:
    assert played([PAST], [(0.0, subscribe(0))]) == [(0.0, 0), (0.0, BEGIN), (0.25, END)]


def test_end__of_what_happens_now_waits_for_nobody() -> None:
    live = [(0.0, LIVE), (1.0, event(BEGIN)), (2.0, event(END))]

    assert played([live], [(0.0, subscribe(0))]) == [(0.0, 0), (1.0, BEGIN), (2.0, END)]


def test_event__is_sent_once_however_many_want_it() -> None:
    live = [(0.0, LIVE), (1.0, event(BEGIN)), (1.0, event(STATE)), (2.0, event(END))]

    told = played([live, live, live], [(0.0, subscribe(n)) for n in range(3)])

    assert told[3:] == [(1.0, BEGIN), (1.0, STATE), (2.0, END)]


def test_event__is_sent_again_to_whoever_comes_later() -> None:
    live = [(0.0, LIVE), (1.0, event(BEGIN))]
    replay = [(0.0, event(BEGIN)), (0.0, LIVE)]

    told = played([live, replay], [(0.0, subscribe(0)), (2.0, subscribe(1))])

    assert told == [(0.0, 0), (1.0, BEGIN), (2.0, 1), (2.0, BEGIN)]


def test_replay__of_large_events_is_not_held_back() -> None:
    """A connection may have a hundred subscriptions: of each, a megabyte waits for its answer."""
    large = event(BEGIN, data=b'"%s"' % (b"x" * 2_000_000))
    replay = [(0.0, large), (5.0, event(STATE)), (5.0, LIVE)]

    told = played([replay], [(0.0, subscribe(0))])

    assert told == [(0.0, 0), (0.0, BEGIN), (5.0, STATE)]


def test_event__that_shares_its_number_is_sent_as_well() -> None:
    """What one entry of a log becomes is counted up to a thousand."""
    events = [event(BEGIN), event(BEGIN).replace(b'"e', b'"another')]
    live = [(0.0, LIVE), (1.0, b"".join(events))]

    told = played([live], [(0.0, subscribe(0))])

    assert told == [(0.0, 0), (1.0, BEGIN), (1.0, BEGIN)]
