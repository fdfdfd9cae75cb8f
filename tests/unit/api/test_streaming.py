"""The bytes that a client gets, from what the reader tells."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from trellis.api.streaming import (
    View,
    cursor,
    event_chunks,
    showing,
    value_chunks,
    wanted_modes,
    watched,
)
from trellis.errors import Unavailable
from trellis.stream import sse
from trellis.stream.entries import BEAT, GAP, End, Event, Item

ALL = View(with_ids=False, has_values=True)
NO_VALUES = View(with_ids=False, has_values=False)

SNAPSHOT = b'event: values\r\ndata: {"from":"postgres"}\r\n\r\n'


def event(name: str, data: bytes = b"1", number: int = 1) -> Event:
    return Event(b"%d-0" % number, name, sse.frame(name, data))


def sent(name: str, data: bytes = b"1") -> bytes:
    return sse.event(name, data)


async def told(*batches: Sequence[Item]) -> AsyncGenerator[Sequence[Item], None]:
    for batch in batches:
        yield batch


async def from_postgres() -> bytes:
    return b'{"from":"postgres"}'


async def failure_from_postgres() -> bytes:
    return b'{"__error__":{"error":"ValueError","message":"boom"}}'


def events(*batches: Sequence[Item], view: View = ALL, recover: Any = from_postgres) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [chunk async for chunk in event_chunks(told(*batches), view, recover)]

    return asyncio.run(collect())


def values(*batches: Sequence[Item]) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [chunk async for chunk in value_chunks(told(*batches), from_postgres)]

    return asyncio.run(collect())


def test_events__what_came_together_is_sent_together() -> None:
    chunks = events([event("metadata"), event("values")], [BEAT], [End("success", b"{}")])

    assert chunks == [sent("metadata") + sent("values"), b": heartbeat\r\n\r\n"]


def test_events__with_ids() -> None:
    view = View(with_ids=True, has_values=True)

    [chunk] = events([event("values", number=7), End("success", b"{}")], view=view)

    assert chunk == b"event: values\r\ndata: 1\r\nid: 7-0\r\n\r\n"


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("values", ["values", "values|child:1"]),
        ("messages", ["messages/partial", "messages/metadata|child:1"]),
        ("messages-tuple", ["messages", "messages|child:1"]),
        ("custom", []),
    ],
)
def test_showing__one_mode_and_always_the_error(mode: str, shown: list[str]) -> None:
    names = [
        "metadata",
        "values",
        "values|child:1",
        "messages",
        "messages|child:1",
        "messages/partial",
        "messages/metadata|child:1",
        "error",
    ]
    shows = showing(frozenset({mode}))

    assert [name for name in names if shows(event(name))] == [*shown, "error"]
    assert all(map(shows, (GAP, BEAT, End("success", None))))


@pytest.mark.parametrize(
    ("last", "told_again"),
    [
        ([GAP, End("success", b"2")], [sse.GAP, sent("values", b"2")]),
        (
            [GAP, event("custom"), End("success", b"2")],
            [sse.GAP, sent("custom"), sent("values", b"2")],
        ),
        ([GAP, event("values", b"2"), End("success", b"2")], [sse.GAP, sent("values", b"2")]),
        ([GAP, End("interrupted", b"2")], [sse.GAP]),
    ],
)
def test_events__a_gap_before_the_end(last: list[Item], told_again: list[bytes]) -> None:
    """A log that was flushed under a run: its last events are gone, and its end is there."""
    chunks = events([event("values")], last)

    assert b"".join(chunks) == b"".join([sent("values"), *told_again])


def test_events__a_gap_is_filled_with_the_values() -> None:
    chunks = events([event("values"), GAP], [event("custom"), End("success", b"{}")])

    assert chunks == [sent("values") + sse.GAP, SNAPSHOT, sent("custom")]


def test_events__a_gap_that_newer_values_fill() -> None:
    chunks = events([GAP, event("values")], [End("success", b"{}")])

    assert chunks == [sse.GAP + sent("values")]


def test_events__a_gap_is_told_to_who_looks_at_no_values() -> None:
    chunks = events([GAP, event("custom"), End("success", b"{}")], view=NO_VALUES)

    assert chunks == [sse.GAP + sent("custom")]


def test_events__an_end_that_the_log_does_not_tell() -> None:
    lost = End("success", None, in_log=False)

    assert events([lost]) == [sse.GAP + SNAPSHOT]
    assert events([lost], view=NO_VALUES) == [sse.GAP]
    assert events([End("interrupted", None, in_log=False)]) == []


def test_events__values_too_large_for_the_end_are_not_told_twice() -> None:
    assert events([event("values")], [End("success", None)]) == [sent("values")]
    assert events([GAP, End("success", None)]) == [sse.GAP, SNAPSHOT]


def test_events__a_failure_is_told_once() -> None:
    lost = events([End("error", None)], view=NO_VALUES, recover=failure_from_postgres)
    seen = events([event("error"), End("error", None)], recover=failure_from_postgres)

    assert lost == [sent("error", b'{"error":"ValueError","message":"boom"}')]
    assert seen == [sent("error")]


def test_events__of_a_run_that_was_deleted_just_end() -> None:
    assert events([event("metadata")], [End(None, None)]) == [sent("metadata")]


def test_events__a_process_that_shuts_down_asks_to_come_back() -> None:
    sent_before: list[bytes] = []

    async def collect() -> None:
        chunks = event_chunks(told([event("metadata")]), ALL, from_postgres)
        while True:
            sent_before.append(await anext(chunks))

    with pytest.raises(Unavailable):
        asyncio.run(collect())

    assert sent_before == [sent("metadata"), sse.CLOSING]


def test_events__a_client_that_leaves_closes_what_it_followed() -> None:
    closed = []

    async def endless() -> AsyncGenerator[Sequence[Item], None]:
        try:
            while True:
                yield [event("values")]
        finally:
            closed.append(True)

    async def leave() -> None:
        chunks = event_chunks(endless(), ALL, from_postgres)
        await anext(chunks)
        await chunks.aclose()  # type: ignore[attr-defined]  # it is a generator

    asyncio.run(leave())

    assert closed == [True]


def test_values__newlines_until_the_end() -> None:
    chunks = values(
        [event("values")], [BEAT], [BEAT], [event("custom"), End("success", b'{"a":1}')]
    )

    assert chunks == [b"\n", b"\n", b'{"a":1}']


def test_values__from_postgres() -> None:
    assert values([End("success", None)]) == [b'{"from":"postgres"}']


def test_values__of_a_run_that_was_deleted() -> None:
    assert values([End(None, None)]) == [
        b'{"__error__":{"error":"HTTPException","message":"404: Run not found"}}'
    ]


def test_values__a_process_that_shuts_down_breaks_the_connection() -> None:
    with pytest.raises(Unavailable):
        values([BEAT])


@pytest.mark.parametrize(
    ("resumable", "header", "expected"),
    [
        (False, None, "$"),
        (False, "-1", "$"),
        (False, "5-0", "$"),
        (True, None, "$"),
        (True, "-1", "0"),
        (True, "5-0", "5-0"),
        (True, "garbage", None),
    ],
)
def test_cursor(resumable: bool, header: str | None, expected: str | None) -> None:
    run = {"kwargs": {"resumable": resumable}}

    assert cursor(run, header) == expected


@pytest.mark.parametrize(
    ("given", "modes"),
    [
        ([], None),
        ([""], None),
        (["values"], {"values"}),
        (["values", "custom"], {"values", "custom"}),
        (['["values", "custom"]'], {"values", "custom"}),
        (["[]"], None),
        (["[1]"], None),
        (["["], {"["}),
        (["custom,values"], {"custom,values"}),
    ],
)
def test_wanted_modes(given: list[str], modes: set[str] | None) -> None:
    assert wanted_modes(given) == modes


# Clients that hang up


async def chunks(*given: bytes, then: Exception | None = None) -> AsyncGenerator[bytes, None]:
    for chunk in given:
        yield chunk
    if then:
        raise then


async def left(body: AsyncGenerator[bytes, None], calls: list[str]) -> bool:
    """Whether `leave` was called, which happens in a thread."""
    await asyncio.get_running_loop().shutdown_default_executor()
    return calls == ["left"]


@pytest.mark.parametrize("read", [1, 2])
def test_watched__the_client_leaves(read: int) -> None:
    async def play() -> bool:
        calls: list[str] = []
        body = watched(chunks(b"1", b"2"), lambda: calls.append("left"))
        for _ in range(read):
            await anext(body)
        await body.aclose()
        return await left(body, calls)

    assert asyncio.run(play())


def test_watched__the_task_is_cancelled() -> None:
    async def forever() -> AsyncGenerator[bytes, None]:
        yield b"1"
        await asyncio.Event().wait()

    async def play() -> bool:
        calls: list[str] = []
        body = watched(forever(), lambda: calls.append("left"))
        await anext(body)
        waiting = asyncio.ensure_future(anext(body))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        return await left(body, calls)

    assert asyncio.run(play())


@pytest.mark.parametrize("then", [None, Unavailable("The server is shutting down")])
def test_watched__the_chunks_end(then: Exception | None) -> None:
    """By themselves, or because this process shuts down: nobody has left."""

    async def play() -> bool:
        calls: list[str] = []
        body = watched(chunks(b"1", then=then), lambda: calls.append("left"))
        with contextlib.suppress(Unavailable):
            assert [chunk async for chunk in body] == [b"1"]
        return await left(body, calls)

    assert not asyncio.run(play())
