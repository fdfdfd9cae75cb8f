"""Redis frozen, killed, flushed, restarted, full: no client hangs, and no event is doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from integration.stream.conftest import QUICK, Run, claim, collect, data, until
from trellis.dev.embedded import Server, start_valkey
from trellis.domain.runs import RunStatus
from trellis.stream.reader import Beat, End, Gap, Item, Reader, Timing
from trellis.stream.writer import EventWriter, Limits

pytestmark = pytest.mark.anyio

Restart = Callable[[], None]
NewWriter = Callable[[Limits], EventWriter]

IMPATIENT = Limits(timeout_seconds=0.3)


@pytest.fixture
def redis_url(own_valkey: Server) -> str:
    return own_valkey.url


@pytest.fixture
def writer(new_writer: NewWriter) -> EventWriter:
    return new_writer(IMPATIENT)


@pytest.fixture
async def thawed(own_valkey: Server) -> AsyncIterator[None]:
    """Whatever the test froze runs again before clients disconnect."""
    yield
    os.kill(own_valkey.pid, signal.SIGCONT)


@pytest.fixture
def restart(own_valkey: Server, tmp_path: Path) -> Iterator[Restart]:
    """Start the server again that the test has stopped."""
    with ExitStack() as stack:

        def start() -> None:
            again = start_valkey(tmp_path / "valkey", port=_port(own_valkey))
            stack.callback(again.stop)

        yield start


async def keep(reader: Reader, run: Run, items: list[Item]) -> None:
    async for batch in reader.batches("r1", status=run):
        items += batch


async def test_flush__every_key_is_gone_and_the_run_ends(
    writer: EventWriter, reader: Reader, client: redis.Redis
) -> None:
    run, items = Run(RunStatus.RUNNING), list[Item]()
    following = asyncio.create_task(keep(reader, run, items))
    writer.send(claim(), "custom", b"1")
    await until(lambda: len(items) == 1)

    client.flushall()
    run.status = RunStatus.SUCCESS
    await asyncio.wait_for(following, 5)

    assert items[-1] == End("success", None, in_log=False)


async def test_flush__the_stream_goes_on_with_a_gap_for_who_missed_something(
    writer: EventWriter, reader: Reader, running: Run, client: redis.Redis
) -> None:
    following = asyncio.create_task(collect(reader, running))
    writer.send(claim(), "custom", b"1")
    await until(lambda: bool(client.exists("t:s:r1")))
    await asyncio.sleep(0.05)
    client.flushall()
    writer.send(claim(), "custom", b"2")
    await writer.flush()
    late = asyncio.create_task(collect(reader, running))
    await until(lambda: reader.followers == 2)
    writer.end(claim(), "success", None)

    assert data(await following) == ["1", "2", "End success"]
    assert data(await late) == ["Gap", "2", "End success"]


@pytest.mark.usefixtures("thawed")
async def test_freeze__a_client_hears_beats_and_the_end(
    own_valkey: Server, writer: EventWriter, reader: Reader
) -> None:
    run, items = Run(RunStatus.RUNNING), list[Item]()
    following = asyncio.create_task(keep(reader, run, items))
    writer.send(claim(), "custom", b"1")
    await until(lambda: len(items) == 1)
    os.kill(own_valkey.pid, signal.SIGSTOP)

    await until(lambda: sum(isinstance(item, Beat) for item in items) >= 3)
    run.status = RunStatus.SUCCESS
    await asyncio.wait_for(following, 5)

    assert items[-1] == End("success", None, in_log=False)


@pytest.mark.usefixtures("thawed")
async def test_freeze__a_batch_whose_answer_was_lost_is_appended_once(
    own_valkey: Server, writer: EventWriter, reader: Reader, running: Run, client: redis.Redis
) -> None:
    writer.send(claim(), "custom", b"0")
    await writer.flush()
    os.kill(own_valkey.pid, signal.SIGSTOP)
    for n in range(1, 10):
        writer.send(claim(), "custom", b"%d" % n)
    assert not await writer.flush(3 * IMPATIENT.timeout_seconds)
    os.kill(own_valkey.pid, signal.SIGCONT)
    writer.end(claim(), "success", None)

    assert data(await collect(reader, running)) == [*map(str, range(10)), "End success"]
    assert client.xlen("t:s:r1") == 11


async def test_kill__what_was_sent_meanwhile_arrives_when_redis_is_back(
    own_valkey: Server, restart: Restart, writer: EventWriter, reader: Reader, running: Run
) -> None:
    items: list[Item] = []
    following = asyncio.create_task(keep(reader, running, items))
    writer.send(claim(), "custom", b"0")
    await until(lambda: len(items) == 1)
    own_valkey.stop()
    writer.send(claim(), "custom", b"1")
    writer.end(claim(), "success", b"{}")
    await until(lambda: running.asked > 2)
    assert following.done() is False

    restart()
    await asyncio.wait_for(following, 10)
    await writer.flush()

    kept = [item for item in items if not isinstance(item, Beat)]
    assert data(kept) == ["0", "1", "End success"]
    assert kept[-1] == End("success", b"{}", fence=1)


async def test_kill__postgres_tells_the_end(
    own_valkey: Server, writer: EventWriter, reader: Reader
) -> None:
    run = Run(RunStatus.RUNNING)
    following = asyncio.create_task(collect(reader, run))
    await until(lambda: run.asked > 0)
    own_valkey.stop()

    run.status = RunStatus.TIMEOUT

    assert await asyncio.wait_for(following, 5) == [End("timeout", None, in_log=False)]


async def test_kill__postgres_is_asked_before_the_next_beat(own_valkey: Server) -> None:
    run = Run(RunStatus.RUNNING)
    timing = Timing(beat_seconds=30, first_check_seconds=30, down_check_seconds=(0.1, 0.2))
    reader = Reader(own_valkey.url, timing=timing)
    following = asyncio.create_task(collect(reader, run))
    await asyncio.sleep(0.1)
    own_valkey.stop()
    run.status = RunStatus.ERROR

    assert await asyncio.wait_for(following, 5) == [End("error", None, in_log=False)]

    await reader.close()


async def test_kill__a_client_that_comes_while_redis_is_down(
    own_valkey: Server, reader: Reader
) -> None:
    own_valkey.stop()
    run = Run(RunStatus.RUNNING)
    fresh = asyncio.create_task(collect(reader, run))
    again = asyncio.create_task(collect(reader, run, after="17-0"))
    await until(lambda: run.asked > 4)

    run.status = RunStatus.SUCCESS

    assert await fresh == [End("success", None, in_log=False)]
    assert await again == [End("success", None, in_log=False)]


async def test_kill__sending_is_bounded_and_the_largest_run_pays(
    own_valkey: Server, restart: Restart, new_writer: NewWriter, reader: Reader, running: Run
) -> None:
    writer = new_writer(Limits(max_waiting_events=1_000, timeout_seconds=0.3))
    own_valkey.stop()
    writer.send(claim("quiet"), "custom", b"1")
    for n in range(5_000):
        writer.send(claim("loud"), "custom", b"%d" % n)
    while writer.waiting_events < 1_000:
        writer.send(claim("loud"), "custom", b"0")
    writer.send(claim("quiet"), "custom", b"2")
    writer.end(claim("quiet"), "success", None)
    writer.end(claim("loud"), "success", b"{}")
    assert writer.waiting_events <= 1_000

    restart()
    quiet = await collect(reader, running, run_id="quiet")
    loud = await collect(reader, running, run_id="loud")

    assert data(quiet) == ["1", "2", "End success"]
    assert isinstance(loud[0], Gap)
    assert isinstance(loud[-1], End)
    assert writer.waiting_events == 0
    assert writer.waiting_bytes == 0


async def test_kill__an_end_outlives_the_events_before_it(
    own_valkey: Server, restart: Restart, new_writer: NewWriter, reader: Reader, running: Run
) -> None:
    writer = new_writer(Limits(max_waiting_bytes=100_000, timeout_seconds=0.3))
    own_valkey.stop()
    writer.send(claim(), "values", b"x" * 50_000)
    writer.end(claim(), "success", b"x" * 40_000)
    writer.send(claim("other"), "values", b"x" * 20_000)
    assert writer.waiting_bytes < 50_000

    restart()
    items = await collect(reader, running)

    assert data(items) == ["Gap", "End success"]
    assert items[-1] == End("success", None, fence=1)


async def test_kill__an_end_is_not_sent_for_ever(own_valkey: Server, new_writer: NewWriter) -> None:
    writer = new_writer(Limits(end_patience_seconds=0.2, timeout_seconds=0.3))
    own_valkey.stop()
    writer.send(claim(), "custom", b"1")
    writer.end(claim(), "success", None)

    await until(lambda: writer.waiting_events == 0)

    assert await writer.flush()


async def test_full__the_run_goes_on_when_there_is_room(
    writer: EventWriter, reader: Reader, running: Run, client: redis.Redis
) -> None:
    client.config_set("maxmemory", 1)
    writer.send(claim(), "custom", b"1")
    writer.end(claim(), "success", None)
    assert not await writer.flush(0.3)

    client.config_set("maxmemory", 0)

    assert data(await collect(reader, running)) == ["1", "End success"]


async def test_reader__beats_although_the_server_denies_the_wake_up(
    own_valkey: Server, writer: EventWriter, running: Run, client: redis.Redis
) -> None:
    client.acl_setuser(
        "poor", enabled=True, passwords=["+p"], categories=["+@all"], commands=["-client|unblock"],
        keys=["*"],
    )  # fmt: skip
    url = own_valkey.url.replace(own_valkey.url.split("//")[1].split("@")[0], "poor:p")
    reader = Reader(url, prefix="t:", timing=QUICK)
    quiet = asyncio.create_task(collect(reader, running, run_id="r0"))
    await asyncio.sleep(0.05)
    began = asyncio.get_running_loop().time()
    following = asyncio.create_task(collect(reader, running))
    await asyncio.sleep(0.05)
    writer.end(claim(), "success", None)

    assert data(await following) == ["End success"]

    assert asyncio.get_running_loop().time() - began < 1
    quiet.cancel()
    await asyncio.wait({quiet})
    await reader.close()


def _port(server: Server) -> int:
    return int(server.url.rsplit(":", 1)[1].split("/")[0])
