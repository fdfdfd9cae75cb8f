"""Responses that follow a run: its events as they come, or its values when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import orjson
from flask import Response

from trellis.api.bodies import AsyncBody
from trellis.domain.runs import TERMINAL, RunState, RunStatus
from trellis.errors import Unavailable
from trellis.runtime import Runtime
from trellis.services import runs
from trellis.services.runs import RunRow
from trellis.stream import sse
from trellis.stream.reader import Beat, End, Event, Gap, Item, Reader, Shows

#: Of every event stream.
SSE_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",
    "Content-Type": "text/event-stream; charset=utf-8",
}
_JSON = {"Content-Type": "application/json"}
#: Ends after which a stream just closes. None: the run has been rolled back, or deleted.
SILENT = (None, RunStatus.INTERRUPTED, RunStatus.TIMEOUT)
_NOT_FOUND = orjson.dumps({"error": "HTTPException", "message": "404: Run not found"})

#: What a reader tells of a run, in the portions in which it came.
Batches = AsyncGenerator[Sequence[Item], None]
#: What has to be sent when events were lost: the run's values or its error, read from Postgres.
Recover = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What of a run's events one client gets."""

    with_ids: bool  #: the run is resumable: the client may come back with Last-Event-ID
    has_values: bool  #: whether a snapshot of the values means anything to this client


def cursor(run: RunRow | None, last_event_id: str | None) -> str | None:
    """
    Where a client that joins begins: `$` is from now on. None means nowhere: its id is none of ours.

    Only a resumable run is replayed.
    """
    if run is None or last_event_id is None or not run["kwargs"]["resumable"]:
        return "$"
    return sse.cursor(last_event_id)


def wanted_modes(given: Iterable[str]) -> frozenset[str] | None:
    """The modes of a `stream_mode` parameter: one, repeated, or a JSON list. None means all."""
    modes = [mode for text in given if text for mode in _modes(text)]
    return frozenset(modes) if modes else None


def events(
    rt: Runtime,
    run: RunRow | None,
    *,
    after: str | None,
    headers: Mapping[str, str],
    modes: frozenset[str] | None = None,
    leave: Callable[[], None] | None = None,
) -> Response:
    """Stream the events of a run as server-sent events. `leave` is called when the client hangs up."""
    headers = {**headers, **SSE_HEADERS}
    if run is None:
        return Response(sse.event("error", _NOT_FOUND), headers=headers)
    if after is None or (after == "$" and run["status"] in TERMINAL):
        return Response(b"", headers=headers)
    shown = modes or frozenset(run["kwargs"]["stream_mode"])
    view = View(with_ids=run["kwargs"]["resumable"], has_values="values" in shown)
    batches = _batches(rt, run["run_id"], after, shows=None if modes is None else showing(modes))
    recover = recovery(rt, run["run_id"], run["thread_id"])
    return _following(rt, run["run_id"], event_chunks(batches, view, recover), headers, leave)


def values(
    rt: Runtime,
    run: RunRow | None,
    *,
    headers: Mapping[str, str],
    leave: Callable[[], None] | None = None,
) -> Response:
    """Wait for the end of a run, and send the thread's values. `leave` is called when the client hangs up."""
    headers = {**headers, **_JSON}
    if run is None:
        return Response(b'{"__error__":%b}' % _NOT_FOUND, headers=headers)
    recover = recovery(rt, run["run_id"], run["thread_id"])
    if run["status"] in TERMINAL:
        final = runs.final_values(rt, run["run_id"], run["thread_id"])
        return Response(final, headers=headers)
    batches = _batches(rt, run["run_id"], "0", shows=_is_end)
    return _following(rt, run["run_id"], value_chunks(batches, recover), headers, leave)


def nothing(rt: Runtime, run_id: str | None, *, headers: Mapping[str, str]) -> Response:
    """Wait for the end of a run (None: it is over), and send an empty object."""
    headers = {**headers, **_JSON}
    if run_id is None:
        return Response(b"{}", headers=headers)
    return Response(
        AsyncBody(end_chunks(_batches(rt, run_id, "$", shows=_is_end))), headers=headers
    )


def _following(
    rt: Runtime,
    run_id: str,
    chunks: AsyncGenerator[bytes, None],
    headers: Mapping[str, str],
    leave: Callable[[], None] | None,
) -> Response:
    if leave is None:
        return Response(AsyncBody(chunks), headers=headers)
    reader = reader_of(rt)

    def left() -> None:
        # A client that is cut off because this process ends has not hung up.
        if not reader.is_closed:
            leave()

    body = watched(chunks, left, presence=rt.presence.of(run_id))
    return Response(AsyncBody(body), headers=headers)


async def watched(
    chunks: AsyncGenerator[bytes, None],
    leave: Callable[[], None],
    *,
    presence: AbstractContextManager[None] | None = None,
) -> AsyncGenerator[bytes, None]:
    """The same chunks; `leave` is called, in a thread, if the client goes before they end."""
    gone = False
    try:
        with presence or nullcontext():
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
    # That is how the server ends a body whose client left: it cancels the task, or closes the generator. Our own
    # shutdown ends the chunks instead.
    except (asyncio.CancelledError, GeneratorExit):
        gone = True
        raise
    finally:
        if gone:
            asyncio.get_running_loop().run_in_executor(None, leave)


async def event_chunks(
    batches: Batches, view: View, recover: Recover
) -> AsyncGenerator[bytes, None]:
    """
    The bytes of an event stream. What came together is sent together.

    :raises Unavailable: the process shuts down. A stream that just ended would look complete.
    """
    has_failed = False
    async with aclosing(batches):
        async for items in batches:
            if frames := b"".join(_frames(items, view)):
                yield frames
            has_failed |= any(isinstance(item, Event) and item.name == "error" for item in items)
            end = items[-1]
            if isinstance(end, End):
                is_untold = not end.is_told or _ends_in_a_gap(items)
                if is_untold and end.status not in SILENT and not has_failed:
                    final = await recover() if end.values is None else end.values
                    gap = b"" if end.in_log else sse.GAP
                    if frame := gap + snapshot(final, has_values=view.has_values):
                        yield frame
                return
            # Values that came after the gap are newer than what Postgres has.
            if view.has_values and _ends_in_a_gap(items):
                yield snapshot(await recover(), has_values=view.has_values)
    # Not over, but this process is: the client comes back to another.
    yield sse.CLOSING
    # A client of the SDK whose stream just ends asks for its run, and is content if that is over by then.
    raise Unavailable("The server is shutting down")


async def value_chunks(batches: Batches, recover: Recover) -> AsyncGenerator[bytes, None]:
    """
    The bytes of a JSON body that takes its time: newlines while nothing happens, then the values.

    :raises Unavailable: the process shuts down. A body that just ended would look complete.
    """
    async with aclosing(batches):
        async for items in batches:
            end = items[-1]
            if isinstance(end, End):
                yield await _final(end, recover)
                return
            if isinstance(end, Beat):
                yield b"\n"
    raise Unavailable("The server is shutting down")


async def end_chunks(batches: Batches) -> AsyncGenerator[bytes, None]:
    """
    The bytes of an empty object, when the run is over.

    :raises Unavailable: the process shuts down.
    """
    async with aclosing(batches):
        async for items in batches:
            if isinstance(items[-1], End):
                yield b"{}"
                return
            if isinstance(items[-1], Beat):
                yield b"\n"
    raise Unavailable("The server is shutting down")


async def _final(end: End, recover: Recover) -> bytes:
    if end.values is not None:
        return end.values
    return b'{"__error__":%b}' % _NOT_FOUND if end.status is None else await recover()


def _frames(items: Sequence[Item], view: View) -> Iterable[bytes]:
    for item in items:
        if isinstance(item, Event):
            yield sse.closed(item.frame, item.id if view.with_ids else None)
        elif isinstance(item, Gap):
            yield sse.GAP
        elif isinstance(item, Beat):
            yield sse.HEARTBEAT


def _ends_in_a_gap(items: Sequence[Item]) -> bool:
    """Whether events were lost after the last values that the client gets."""
    for item in reversed(items):
        if isinstance(item, Gap) or (isinstance(item, Event) and item.name == "values"):
            return isinstance(item, Gap)
    return False


def snapshot(final: bytes, *, has_values: bool) -> bytes:
    """What stands for the events that were lost; nothing if this client does not look at values."""
    if final.startswith(b'{"__error__":'):
        return sse.event("error", orjson.dumps(orjson.loads(final)["__error__"]))
    return sse.event("values", final) if has_values and final != b"null" else b""


def showing(modes: frozenset[str]) -> Shows:
    """For a client that gets events of these modes only, and always an error."""

    def shows(item: Item) -> bool:
        return not isinstance(item, Event) or item.name == "error" or _mode(item.name) in modes

    return shows


def _is_end(item: Item) -> bool:
    return isinstance(item, End)


def _mode(event: str) -> str:
    """The stream mode that an event belongs to, subgraphs included."""
    name = event.partition("|")[0]
    if name == "messages":
        return "messages-tuple"
    return "messages" if name.startswith("messages/") else name


def _modes(text: str) -> list[str]:
    if not text.startswith("["):
        return [text]
    try:
        named: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [text]
    return [mode for mode in named if isinstance(mode, str)]


def _batches(rt: Runtime, run_id: str, after: str, *, shows: Shows | None) -> Batches:
    async def status() -> RunState | None:
        return await runs.state_later(rt, run_id)

    return cast(Batches, reader_of(rt).batches(run_id, after=after, status=status, shows=shows))


def recovery(rt: Runtime, run_id: str, thread_id: str) -> Recover:
    """What stands for the events of a run that were lost."""

    async def recover() -> bytes:
        return await asyncio.to_thread(runs.final_values, rt, run_id, thread_id)

    return recover


def reader_of(rt: Runtime) -> Reader:
    """The process's reader. :raises Unavailable: there is none yet."""
    if rt.reader is None:
        raise Unavailable("The server is starting. Try again.")
    return rt.reader
