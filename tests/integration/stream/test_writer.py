from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import redis

from integration.stream.conftest import Run, claim, collect, data
from trellis.stream.reader import End, Reader
from trellis.stream.writer import EventWriter, Limits

pytestmark = pytest.mark.anyio


async def test_start__raises_the_fence(writer: EventWriter, client: redis.Redis) -> None:
    writer.start(claim(fence=7))
    await writer.flush()
    writer.send(claim(fence=6), "custom", b"1")
    await writer.flush()

    assert not client.exists("t:s:r1")


async def test_send__one_entry_per_event(writer: EventWriter, client: redis.Redis) -> None:
    writer.send(claim(fence=7), "values", b"{}")
    await writer.flush()

    ((_, fields),) = client.xrange("t:s:r1")

    assert fields == {
        b"f": b"7",
        b"n": b"1",
        b"e": b"values",
        b"x": b"event: values\r\ndata: {}\r\n",
    }


async def test_send__what_arrives_meanwhile_goes_together(
    writer: EventWriter, client: redis.Redis
) -> None:
    writer.send(claim(), "custom", b"0")
    await writer.flush()
    client.config_resetstat()
    for n in range(1, 400):
        writer.send(claim(), "custom", b"%d" % n)

    await writer.flush()

    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
    assert client.xlen("t:s:r1") == 400


async def test_send__after_the_end_is_ignored(writer: EventWriter, client: redis.Redis) -> None:
    writer.end(claim(), "success", None)
    writer.send(claim(), "custom", b"1")
    writer.end(claim(), "error", None)
    await writer.flush()

    assert client.xlen("t:s:r1") == 1


async def test_end__values_too_large_to_send(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    writer.end(claim(), "success", b"x" * (1 << 20) + b"x")

    assert await collect(reader, running) == [End("success", None, fence=1)]


@pytest.mark.parametrize(("resumable", "seconds"), [(True, 120), (False, 30)])
async def test_end__keeps_the_log_for_a_while(
    writer: EventWriter, client: redis.Redis, resumable: bool, seconds: int
) -> None:
    writer.start(claim(), resumable=resumable)
    writer.send(claim(), "custom", b"1")
    await writer.flush()
    assert 3_500 < client.ttl("t:s:r1") <= 3_600

    writer.end(claim(), "success", None)
    await writer.flush()

    assert seconds - 2 <= client.ttl("t:s:r1") <= seconds
    assert seconds - 2 <= client.ttl("t:fence:r1") <= seconds


async def test_flush__after_the_script_was_lost(
    writer: EventWriter, reader: Reader, running: Run, client: redis.Redis
) -> None:
    writer.send(claim(), "custom", b"1")
    await writer.flush()
    client.script_flush()
    writer.send(claim(), "custom", b"2")
    writer.end(claim(), "success", None)
    await writer.flush()

    assert data(await collect(reader, running)) == ["1", "2", "End success"]


async def test_flush__one_run_that_redis_refuses_does_not_hold_up_others(
    writer: EventWriter, reader: Reader, running: Run, client: redis.Redis
) -> None:
    client.set("t:s:bad", "no stream")
    writer.send(claim("bad"), "custom", b"1")
    writer.send(claim(), "custom", b"1")
    writer.end(claim(), "success", None)

    assert await writer.flush()

    assert data(await collect(reader, running)) == ["1", "End success"]


async def test_flush__more_runs_than_fit_in_one_round(
    writer: EventWriter, client: redis.Redis
) -> None:
    for r in range(1_000):
        writer.send(claim(f"r{r}"), "custom", b"1")

    assert await writer.flush()

    assert client.dbsize() == 2_000


async def test_flush__busy_runs_do_not_keep_others_out(
    writer: EventWriter, client: redis.Redis
) -> None:
    busy = [claim(f"busy{r}") for r in range(300)]

    def send() -> None:
        for each in busy:
            writer.send(each, "custom", b"1")

    send()
    writer.send(claim("other"), "custom", b"1")
    async with asyncio.timeout(5):
        while not client.exists("t:s:other"):
            send()
            await asyncio.sleep(0)


async def test_leave__forgets_the_run_when_all_is_sent(
    new_writer: Callable[[Limits], EventWriter], client: redis.Redis
) -> None:
    writer = new_writer(Limits())
    writer.send(claim(), "custom", b"1")
    writer.leave(claim())
    await writer.flush()

    assert client.xlen("t:s:r1") == 1
    assert not writer.open_logs


async def test_end__forgets_the_run(writer: EventWriter) -> None:
    for r in range(100):
        writer.send(claim(f"r{r}"), "custom", b"1")
        writer.end(claim(f"r{r}"), "success", None)
    await writer.flush()

    assert not writer.open_logs


async def test_close__sends_what_waits(redis_url: str, client: redis.Redis) -> None:
    writer = EventWriter(redis_url, prefix="t:")
    for n in range(5_000):
        writer.send(claim(), "custom", b"%d" % n)

    await asyncio.wait_for(writer.close(), 5)

    assert client.xlen("t:s:r1") == 5_000
