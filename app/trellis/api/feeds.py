"""Routes that follow a thread: the events of all its runs, as they were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, g, request

from trellis.api import body, protocol_streams, thread_streams
from trellis.api.bodies import AsyncBody
from trellis.api.commands import FRAME
from trellis.api.current import rt, tenant_id
from trellis.api.streaming import SSE_HEADERS, reader_of
from trellis.api.thread_streams import Postgres
from trellis.domain import places
from trellis.domain.places import Place
from trellis.errors import BadRequest, Invalid
from trellis.protocol import subscriptions
from trellis.services import feeds
from trellis.stream import feed
from trellis.stream.claims import Attempt
from trellis.stream.feed import Start, Told

blueprint = Blueprint("feeds", __name__)


@blueprint.get("/threads/<thread_id>/stream")
def follow(thread_id: str) -> Response:
    """Follow all runs of a thread, from now on or after Last-Event-ID, until the client hangs up."""
    thread_id = body.identifier(thread_id, "thread")
    after = _place(request.headers.get("Last-Event-ID"))
    modes = thread_streams.wanted(
        request.args.getlist("stream_mode") + request.args.getlist("stream_modes")
    )
    start = feeds.start(rt(), tenant_id(), thread_id, after=after)
    if start is None and not rt().access.is_open:
        return Response(thread_streams.NOT_FOUND, headers=SSE_HEADERS)
    start = start or Start(fence=0)
    chunks = thread_streams.chunks(
        _told(thread_id, start),
        after=start.place,
        modes=modes,
        postgres=_postgres(thread_id),
    )
    return Response(AsyncBody(chunks), headers=SSE_HEADERS)


@blueprint.post("/threads/<thread_id>/stream/events")
def events(thread_id: str) -> Response:
    """Stream the events of protocol v2 of a thread, from its start or after `since`, until the client hangs up."""
    thread_id = body.identifier(thread_id, "thread")
    wanted = subscriptions.parse(_sent())
    start = feeds.start(rt(), tenant_id(), thread_id, after=wanted.after) or Start(fence=0)
    chunks = protocol_streams.chunks(
        _told(thread_id, start),
        replace(wanted, after=start.place),
        _postgres(thread_id),
        settled=start.settled,
        form=protocol_streams.LINES if FRAME in request.environ else protocol_streams.SSE,
    )
    return Response(AsyncBody(chunks), headers=SSE_HEADERS)


def _sent() -> Any:
    try:
        return body.data()
    except Invalid as error:
        detail = error.detail.replace("Invalid JSON in request body", "Invalid JSON body")
        raise BadRequest(detail) from None


def _place(last_event_id: str | None) -> Place | None:
    if not last_event_id:
        return None
    place = places.place_of_id(last_event_id)
    if place is None:
        raise Invalid("Invalid last-event-id: must be a valid Redis stream ID")
    return place


def _told(thread_id: str, start: Start) -> AsyncGenerator[Told, None]:
    ask = feeds.asking(rt(), tenant_id(), thread_id, allowed=g.get("filter"))
    return feed.told(reader_of(rt()), tenant_id(), thread_id, start=start, ask=ask)


def _postgres(thread_id: str) -> Postgres:
    runtime, tenant = rt(), tenant_id()

    async def lost(attempt: Attempt) -> bytes:
        return await asyncio.to_thread(feeds.final, runtime, tenant, thread_id, attempt.run_id)

    async def paused(attempt: Attempt) -> bool:
        return await asyncio.to_thread(feeds.is_paused, runtime, tenant, thread_id, attempt.run_id)

    async def state() -> bytes:
        return await asyncio.to_thread(feeds.state, runtime, thread_id)

    return Postgres(lost=lost, paused=paused, state=state)
