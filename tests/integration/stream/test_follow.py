"""From a writer through Redis to followers, while all is well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest
import redis

from integration.stream.conftest import QUICK, Run, claim, collect, data, until
from trellis.domain.runs import RunState, RunStatus
from trellis.stream import sse
from trellis.stream.reader import Beat, End, Event, Gap, Item, Reader
from trellis.stream.writer import EventWriter, Limits

pytestmark = pytest.mark.anyio

NewWriter = Callable[[Limits], EventWriter]


async def test_follow(writer: EventWriter, reader: Reader, running: Run) -> None:
    following = asyncio.create_task(collect(reader, running))
    writer.start(claim())
    for n in range(3):
        writer.send(claim(), "values", b"%d" % n)
    writer.end(claim(), "success", b'{"n":2}')

    items = await following

    assert data(items) == ["0", "1", "2", "End success"]
    assert items[-1] == End("success", b'{"n":2}', fence=1)


async def test_follow__yields_the_bytes_for_the_client(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    writer.send(claim(), "values|child:1", b"{}")
    writer.end(claim(), "success", None)

    event, end = await collect(reader, running)

    assert isinstance(event, Event)
    assert event.name == "values|child:1"
    assert sse.closed(event.frame) == b"event: values|child:1\r\ndata: {}\r\n\r\n"
    assert sse.cursor(event.id.decode()) == event.id.decode()
    assert end == End("success", None, fence=1)


async def test_follow__many_events_in_order(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    following = asyncio.create_task(collect(reader, running))
    for n in range(3_000):
        writer.send(claim(), "custom", b"%d" % n)
        if n % 700 == 0:
            await asyncio.sleep(0)
    writer.end(claim(), "success", None)

    assert data(await following) == [*map(str, range(3_000)), "End success"]


async def test_follow__joins_while_another_run_blocks_the_read(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    async with aclosing(reader.follow("quiet", status=running)) as quiet:
        waiting = asyncio.ensure_future(anext(quiet))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        following = asyncio.create_task(collect(reader, running))
        await asyncio.sleep(0)
        writer.send(claim(), "values", b"1")
        writer.end(claim(), "success", None)

        assert data(await following) == ["1", "End success"]

        assert time.monotonic() - began < 0.2
        waiting.cancel()
        await asyncio.wait({waiting})


async def test_follow__late_and_from_the_start(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    """A second follower of a run that is being followed replays, then shares the one read."""
    first = asyncio.create_task(collect(reader, running))
    for n in range(1_200):
        writer.send(claim(), "custom", b"%d" % n)
    await writer.flush()
    second = asyncio.create_task(collect(reader, running))
    await asyncio.sleep(0.01)
    for n in range(1_200, 2_000):
        writer.send(claim(), "custom", b"%d" % n)
        await asyncio.sleep(0)
    writer.end(claim(), "success", None)

    expected = [*map(str, range(2_000)), "End success"]
    assert data(await first) == expected
    assert data(await second) == expected


async def test_follow__after_an_id(writer: EventWriter, reader: Reader, running: Run) -> None:
    for n in range(5):
        writer.send(claim(), "custom", b"%d" % n)
    writer.end(claim(), "success", None)
    whole = await collect(reader, running)
    third = whole[2]
    assert isinstance(third, Event)

    rest = await collect(reader, running, after=third.id.decode())

    assert data(rest) == ["3", "4", "End success"]


async def test_follow__from_now_on(writer: EventWriter, reader: Reader, running: Run) -> None:
    writer.send(claim(), "custom", b'"before"')
    await writer.flush()

    following = asyncio.create_task(collect(reader, running, after="$"))
    await until(lambda: running.asked > 0)
    await asyncio.sleep(0.05)
    writer.send(claim(), "custom", b'"after"')
    writer.end(claim(), "success", None)

    assert data(await following) == ['"after"', "End success"]


async def test_follow__from_now_on_after_the_end(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    writer.send(claim(), "custom", b"1")
    writer.end(claim(), "success", b"{}")
    await writer.flush()

    assert await collect(reader, running, after="$") == [End("success", b"{}", fence=1)]


async def test_follow__a_run_that_is_over_and_forgotten(reader: Reader) -> None:
    began = time.monotonic()

    assert await collect(reader, Run(RunStatus.SUCCESS)) == [End("success", None, in_log=False)]

    assert time.monotonic() - began < 1


async def test_follow__a_run_that_does_not_exist(reader: Reader) -> None:
    async def nothing() -> None:
        return None

    items = [item async for item in reader.follow("r0", status=nothing)]

    assert items[-1] == End(None, None, in_log=False)


async def test_follow__the_end_entry_was_never_written(writer: EventWriter, reader: Reader) -> None:
    """The worker died between the commit and the append."""
    run = Run(RunStatus.RUNNING)
    following = asyncio.create_task(collect(reader, run))
    writer.send(claim(), "custom", b"1")
    await writer.flush()

    run.status = RunStatus.ERROR

    assert data(await following) == ["1", "End error"]


async def test_follow__the_end_entry_comes_after_the_commit_was_seen(
    writer: EventWriter, reader: Reader
) -> None:
    following = asyncio.create_task(collect(reader, Run(RunStatus.SUCCESS)))
    await asyncio.sleep(QUICK.first_check_seconds + QUICK.end_lag_seconds / 2)
    writer.send(claim(), "custom", b"1")
    writer.end(claim(), "success", b"{}")

    assert data(await following) == ["1", "End success"]


async def test_follow__beats_after_each_silence(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    times: list[float] = []
    began = time.monotonic()
    async with aclosing(reader.follow("r1", status=running)) as items:
        async for item in items:
            assert isinstance(item, Beat)
            times.append(time.monotonic() - began)
            if len(times) == 3:
                break

    assert times == pytest.approx([0.3, 0.6, 0.9], abs=0.05)


async def test_follow__an_event_puts_the_beat_off(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(0.2, writer.send, claim(), "custom", b"1")
    began = loop.time()
    async with aclosing(reader.follow("r1", status=running)) as items:
        first, second = await anext(items), await anext(items)

    assert isinstance(first, Event)
    assert isinstance(second, Beat)
    assert loop.time() - began == pytest.approx(0.5, abs=0.06)


async def test_batches__what_is_not_shown_puts_no_beat_off(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    def is_values(item: Item) -> bool:
        return not isinstance(item, Event) or item.name == "values"

    async def chatter() -> None:
        for n in range(10_000):
            writer.send(claim(), "values" if n == 30 else "custom", b"%d" % n)
            await asyncio.sleep(QUICK.beat_seconds / 10)

    chatting = asyncio.create_task(chatter())
    items: list[Item] = []
    async with aclosing(reader.batches("r1", status=running, shows=is_values)) as batches:
        async for batch in batches:
            items += batch
            if len(items) == 6:
                break
    chatting.cancel()

    assert {type(item) for item in items} == {Beat, Event}
    assert sum(isinstance(item, Event) for item in items) == 1
    # At the most once, when it began: what is not shown tells all the same that the run goes on.
    assert running.asked <= 1


async def test_follow__asks_postgres_only_after_a_silence(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    loop = asyncio.get_running_loop()
    following = asyncio.create_task(collect(reader, running))
    silences, last = 0, loop.time()
    for n in range(8):
        writer.send(claim(), "custom", b"%d" % n)
        await asyncio.sleep(QUICK.beat_seconds / 4)
        # None, unless the machine is busy.
        silences += loop.time() - last > QUICK.beat_seconds / 2
        last = loop.time()
    writer.end(claim(), "success", None)
    await following

    assert running.asked <= silences


async def test_follow__a_database_that_is_down_is_asked_again(reader: Reader) -> None:
    answers = iter([False, True])

    async def status() -> RunState:
        if not next(answers):
            raise ConnectionError("no database")
        return await Run(RunStatus.SUCCESS)()

    items = [item async for item in reader.follow("r1", status=status)]

    assert items[-1] == End("success", None, in_log=False)


async def test_follow__a_later_attempt_goes_on_in_the_same_stream(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    following = asyncio.create_task(collect(reader, running))
    writer.send(claim(fence=3), "metadata", b'"first"')
    await writer.flush()
    writer.start(claim(fence=4))
    writer.send(claim(fence=4), "metadata", b'"second"')
    await writer.flush()
    writer.send(claim(fence=3), "custom", b'"from the grave"')
    writer.end(claim(fence=3), "success", b'"wrong"')
    await writer.flush()
    writer.end(claim(fence=4), "success", b'"right"')

    items = await following

    assert data(items) == ['"first"', '"second"', "End success"]
    assert items[-1] == End("success", b'"right"', fence=4)


async def test_follow__drops_a_replaced_attempt_though_the_fence_key_was_lost(
    writer: EventWriter, reader: Reader, running: Run, client: redis.Redis
) -> None:
    writer.send(claim(fence=4), "custom", b'"new"')
    await writer.flush()
    client.delete("t:fence:r1")
    writer.send(claim(fence=3), "custom", b'"old"')
    await writer.flush()
    writer.end(claim(fence=4), "success", None)

    assert "old" not in str(await collect(reader, running))


async def test_follow__what_was_trimmed_is_a_gap(
    new_writer: NewWriter, reader: Reader, running: Run
) -> None:
    writer = new_writer(Limits(max_entries=100))
    for n in range(1_000):
        writer.send(claim(), "custom", b"%d" % n)
        await asyncio.sleep(0)
    writer.end(claim(), "success", None)
    await writer.flush()

    items = await collect(reader, running)

    assert isinstance(items[0], Gap)
    assert data(items[-2:]) == ["999", "End success"]
    assert sum(isinstance(item, Gap) for item in items) == 1


async def test_follow__after_an_id_that_was_trimmed(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    for n in range(3):
        writer.send(claim(), "custom", b"%d" % n)
    writer.end(claim(), "success", None)
    await writer.flush()

    assert data(await collect(reader, running, after="5-0")) == [
        "Gap",
        "0",
        "1",
        "2",
        "End success",
    ]


async def test_follow__states_that_are_large_are_trimmed_by_their_bytes(
    new_writer: NewWriter, reader: Reader, running: Run, client: redis.Redis
) -> None:
    writer = new_writer(Limits(max_log_bytes=100_000))
    for n in range(100):
        writer.send(claim(), "values", b'"%d%s"' % (n, b"x" * 10_000))
    await writer.flush()

    held = client.memory_usage("t:s:r1", samples=0)
    assert held < 200_000
    writer.end(claim(), "success", None)
    items = await collect(reader, running)
    assert isinstance(items[0], Gap)
    assert data(items)[-2].startswith('"99x')


async def test_follow__a_slow_client_costs_only_itself(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    events = 5 * QUICK.max_items
    async with aclosing(reader.batches("r1", status=running)) as batches:
        slow: list[Item] = []
        fast = asyncio.create_task(collect(reader, running))
        writer.send(claim(), "custom", b"0")
        slow += await anext(batches)
        for n in range(1, events):
            writer.send(claim(), "custom", b"%d" % n)
            if n % 100 == 0:
                await asyncio.sleep(0.001)
        writer.end(claim(), "success", None)
        began = time.monotonic()

        assert data(await fast) == [*map(str, range(events)), "End success"]

        assert time.monotonic() - began < 2
        largest = 0
        async for batch in batches:
            largest = max(largest, len(batch))
            slow += batch
    assert data([item for item in slow if not isinstance(item, Beat)]) == [
        *map(str, range(events)),
        "End success",
    ]
    assert largest <= QUICK.max_items + 2 * 500


async def test_follow__five_hundred_followers(
    writer: EventWriter, reader: Reader, running: Run
) -> None:
    """On 100 runs, five each, some from the start and some from an id."""
    for r in range(100):
        writer.send(claim(f"r{r}"), "custom", b"0")
    await writer.flush()
    following = [
        asyncio.create_task(collect(reader, running, run_id=f"r{n % 100}")) for n in range(500)
    ]
    await until(lambda: reader.followers == 500)
    for n in range(1, 20):
        for r in range(100):
            writer.send(claim(f"r{r}"), "custom", b"%d" % n)
        await asyncio.sleep(0.005)
    for r in range(100):
        writer.end(claim(f"r{r}"), "success", b"%d" % r)

    for n, items in enumerate(await asyncio.gather(*following)):
        assert data(items) == [*map(str, range(20)), "End success"]
        assert items[-1] == End("success", b"%d" % (n % 100), fence=1)


async def test_follow__uses_few_connections(
    writer: EventWriter, reader: Reader, running: Run, client: redis.Redis
) -> None:
    following = [
        asyncio.create_task(collect(reader, running, run_id=f"r{n}", after="$")) for n in range(200)
    ]
    await until(lambda: running.asked >= 200)

    database = client.get_connection_kwargs()["db"]
    ours = [each for each in client.client_list() if each["db"] == str(database)]

    assert len(ours) <= 1 + 8 + 2
    for task in following:
        task.cancel()
    await asyncio.wait(following)


async def test_follow__nobody_follows_so_nothing_is_read(
    writer: EventWriter, reader: Reader, running: Run, client: redis.Redis
) -> None:
    writer.end(claim(), "success", None)
    await collect(reader, running)
    await asyncio.sleep(0.05)
    client.config_resetstat()

    await asyncio.sleep(0.3)

    assert "cmdstat_xread" not in client.info("commandstats")


async def test_close__ends_the_streams_without_an_end(redis_url: str, running: Run) -> None:
    reader = Reader(redis_url, timing=QUICK)
    following = asyncio.create_task(collect(reader, running))
    await until(lambda: reader.followers == 1)

    await reader.close()

    assert await asyncio.wait_for(following, 1) == []
