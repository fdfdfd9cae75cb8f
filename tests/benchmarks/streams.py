"""Scenarios of event streams: tokens at full speed, tokens at a model's pace, silent streams."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import processes
from benchmarks.client import Client, Streamed
from benchmarks.load import Load, ask_meanwhile, attempt, pump
from benchmarks.scenarios import Round
from benchmarks.stats import percentile

#: Runs that the silent streams follow: few enough that every server runs them all at once.
FOLLOWED_RUNS = 32
#: How many streams are opened at the same time.
OPENING = 64
#: How long nothing is said while memory and CPU are read.
SILENCE_SECONDS = 2


async def tokens(now: Round) -> None:
    """Stream runs whose model never pauses: what the way of an event costs."""
    for count in now.plan.token_streams:
        await _streams(now, "tokens", count, repeats=now.plan.token_repeats)


async def burst(now: Round) -> None:
    """Stream a single run that sends as many events as it can."""
    now.record.count(await pump(lambda: _warm(now.client), concurrency=1, count=2))
    done: list[Streamed] = []

    async def one() -> None:
        done.append(await now.client.stream_burst(thread=await now.client.thread()))

    load = await pump(one, concurrency=1, count=now.plan.bursts)
    now.record.count(load)
    rates = [each.events / each.total for each in done]
    now.record.values["1 run, events/s"] = percentile(rates, 0.5)


async def first_event(now: Round) -> None:
    """Time the first event of single runs: on a server at rest, and beside many streams."""
    now.record.count(await pump(lambda: _warm(now.client), concurrency=1, count=3))
    await _probe(now, "idle", [])
    load, count = Load(), now.plan.slow_streams
    others = [asyncio.create_task(attempt(load, lambda: _other(now.client))) for _ in range(count)]
    await _probe(now, f"beside {count} streams", others)
    await asyncio.gather(*others)
    now.record.count(load)


async def _other(client: Client) -> None:
    await client.stream_tokens("tokslow", thread=await client.thread())


async def _probe(now: Round, name: str, others: Sequence[asyncio.Task[None]]) -> None:
    """Stream one run after the other; if there are others, as long as all of them are at work."""
    first: list[float] = []
    until = time.perf_counter() + now.plan.latency_seconds
    while len(first) < now.plan.latency_count and time.perf_counter() < until:
        streamed = await now.client.stream_tokens("tokens", thread=await now.client.thread())
        if any(each.done() for each in others):
            break
        first.append(streamed.first)
    for share in (0.5, 0.99):
        value = percentile(first, share) * 1e3
        now.record.values[f"{name}, first event p{share * 100:g}, ms"] = value


async def slow_tokens(now: Round) -> None:
    """Stream runs at 50 tokens a second, 200 tokens each: ideally 4.0 s."""
    await _streams(now, "tokslow", now.plan.slow_streams, repeats=1)


async def open_streams(now: Round) -> None:
    """Hold silent streams open, and see what each costs the web process."""
    count = now.plan.open_streams
    # The first streams pay for what all share: code paths, buffers, a reader.
    await _hold(now, 50, seconds=2)

    before = _memory_of_web(now)
    # Long enough for a slow side to open them all and to be silent for a while.
    held = await _hold(now, count, seconds=5 + count / 80, asks=now.plan.api_seconds)
    now.record.values["streams open at once"] = held.open
    if held.open < count:
        now.record.errors.append(f"only {held.open} of {count} streams were open at once")
    if held.asked is not None:
        now.record.count(held.asked)
        now.record.spread("other requests", held.asked)
    if before and held.open:
        now.record.values["web memory per stream, KB"] = (held.memory - before) / 1024 / held.open
        now.record.values["web CPU while silent, %"] = held.cpu_share * 100


async def _streams(now: Round, graph: str, count: int, *, repeats: int) -> None:
    done: list[Streamed] = []
    load = Load()
    wall = 0.0
    now.record.count(await pump(lambda: _warm(now.client), concurrency=4, count=4))
    before = now.cpu()
    for _ in range(repeats):
        threads = [await now.client.thread() for _ in range(count)]
        began = time.perf_counter()
        await asyncio.gather(
            *(attempt(load, partial(_one, now.client, graph, t, done)) for t in threads)
        )
        wall += time.perf_counter() - began
    now.record.count(load)
    name = f"{count} streams"
    now.record.values[f"{name}, events/s"] = sum(each.events for each in done) / wall
    for share in (0.5, 0.99):
        first = percentile([each.first for each in done], share)
        now.record.values[f"{name}, first event p{share * 100:g}, ms"] = first * 1e3
    for share in (0.5, 0.99):
        total = percentile([each.total for each in done], share)
        now.record.values[f"{name}, total p{share * 100:g}, s"] = total
    now.record.values[f"{name} all ended, s"] = wall / repeats
    now.note_cpu(name, before, runs=len(done))


async def _one(client: Client, graph: str, thread: str, done: list[Streamed]) -> None:
    done.append(await client.stream_tokens(graph, thread=thread))


async def _warm(client: Client) -> None:
    await client.stream_tokens("tokens", thread=await client.thread())


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What was open at once, and what the web process held and used meanwhile."""

    open: int
    memory: float
    cpu_share: float
    asked: Load | None


class _Followers:
    """Streams that are being opened, are open, or have ended."""

    def __init__(self, client: Client) -> None:
        self.open = 0
        self._client = client
        self._opening = asyncio.Semaphore(OPENING)
        self._decided = asyncio.Semaphore(0)

    async def follow(self, thread: str, run: str) -> None:
        """Follow a run to its end; not too many begin at the same time."""
        await self._opening.acquire()
        accepted = asyncio.Event()

        def on_open() -> None:
            accepted.set()
            self.open += 1
            self._release()

        try:
            await self._client.join(run, thread=thread, on_open=on_open)
        finally:
            if accepted.is_set():
                self.open -= 1
            else:
                self._release()

    async def all_decided(self, count: int) -> None:
        """Return when that many streams have been accepted or have failed."""
        for _ in range(count):
            await self._decided.acquire()

    def _release(self) -> None:
        self._opening.release()
        self._decided.release()


async def _hold(now: Round, count: int, *, seconds: float, asks: float = 0) -> _Held:
    """Open streams on runs that are under way, measure while nothing is said, see them all end."""
    runs = await _start_runs(now, min(FOLLOWED_RUNS, count), seconds + asks)
    followers, load = _Followers(now.client), Load()
    tasks = [
        asyncio.create_task(attempt(load, partial(followers.follow, *runs[n % len(runs)])))
        for n in range(count)
    ]
    await followers.all_decided(count)
    began, before = time.perf_counter(), _cpu_of_web(now)
    await asyncio.sleep(SILENCE_SECONDS)
    used = _cpu_of_web(now) - before
    held = _Held(
        open=followers.open,
        memory=_memory_of_web(now),
        cpu_share=used / (time.perf_counter() - began),
        asked=await ask_meanwhile(now.client, seconds=asks) if asks else None,
    )
    await asyncio.gather(*tasks)
    now.record.count(load)
    return held


async def _start_runs(now: Round, count: int, seconds: float) -> list[tuple[str, str]]:
    runs = []
    for _ in range(count):
        thread = await now.client.thread()
        runs.append((thread, await now.client.start("hold", {"seconds": seconds}, thread=thread)))
    return runs


def _web(now: Round) -> dict[str, Sequence[int]]:
    """Name the processes that hold the streams; a peer has one process for everything."""
    return {kind: pids for kind, pids in now.side.roots.items() if kind in ("web", "server")}


def _memory_of_web(now: Round) -> float:
    return sum(processes.memory_bytes(_web(now)).values())


def _cpu_of_web(now: Round) -> float:
    return sum(processes.cpu_seconds(_web(now)).values())
