"""Scenarios of runs that are waited for: latency, throughput, sleepers, CPU-bound nodes."""

import time

from benchmarks.load import Load, pump
from benchmarks.scenarios import Round


async def latency(now: Round) -> None:
    """Time single requests on a server that has nothing else to do."""
    client, plan = now.client, now.plan
    for _ in range(3):
        await client.wait_on_new_thread("echo")
    threads: list[str] = []

    async def create() -> None:
        threads.append(await client.thread())

    async def alone(name: str, operation, count: int) -> None:
        load = await pump(operation, concurrency=1, count=count, seconds=plan.latency_seconds)
        now.record.count(load)
        now.record.spread(name, load)

    await alone("POST /threads", create, plan.latency_count * 2)
    await alone(
        "wait on a thread", lambda: client.wait("echo", thread=threads.pop()), plan.latency_count
    )
    await alone("stateless wait", lambda: client.wait("echo"), plan.latency_count)
    await alone(
        "stream to its end",
        lambda: client.stream_values("echo", thread=threads.pop()),
        plan.latency_count,
    )


async def echo(now: Round) -> None:
    """Run a one-step graph on new threads, ever more at a time."""
    for concurrency in now.plan.throughput_concurrency:
        await _throughput(now, "echo", concurrency)


async def ten(now: Round) -> None:
    """Run a ten-step graph on new threads."""
    await _throughput(now, "ten", 32)


async def sleepers(now: Round) -> None:
    """Start many runs at once that each only wait for a second."""
    count = now.plan.sleepers
    before = now.cpu()
    load = await pump(
        lambda: now.client.wait_on_new_thread("sleepy"), concurrency=count, count=count
    )
    now.record.count(load)
    now.record.values[f"{count} of 1 s all done, s"] = load.wall
    now.record.spread("one", load)
    now.note_cpu("sleepers", before, runs=len(load.seconds))


async def cpu(now: Round) -> None:
    """Run nodes that each burn 100 ms of CPU in a thread."""
    before = now.cpu()
    load = await pump(lambda: now.client.wait("cpu"), concurrency=8, count=now.plan.cpu_count)
    now.record.count(load)
    now.record.values["8 at a time, runs/s"] = load.rate
    now.note_cpu("8 at a time", before, runs=len(load.seconds))


async def _throughput(now: Round, graph: str, concurrency: int) -> Load:
    name = f"{concurrency} at a time"

    async def one() -> None:
        await now.client.wait_on_new_thread(graph)

    # Opens the connections and fills the caches, which the measured time must not pay for.
    now.record.count(await pump(one, concurrency=concurrency, count=concurrency))
    before, own_before = now.cpu(), time.process_time()
    load = await pump(one, concurrency=concurrency, seconds=now.plan.throughput_seconds)
    own = time.process_time() - own_before
    now.record.count(load)
    now.record.values[f"{name}, runs/s"] = load.rate
    now.record.spread(name, load)
    now.note_cpu(name, before, runs=len(load.seconds))
    if load.seconds:
        now.record.values[f"{name}, generator CPU ms/run"] = own * 1e3 / len(load.seconds)
    return load
