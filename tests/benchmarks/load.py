"""Keep a number of operations going, and count what failed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.client import Client

#: A side that fails this often is broken, not slow; going on would only take time.
TOO_MANY_ERRORS = 50

#: How many requests of each kind are started per second beside what is measured.
API_RATE = 25

Operation = Callable[[], Awaitable[object]]


@dataclass
class Load:
    """What a load did: how long each success took, what failed, and how long it all took."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wall: float = 0.0

    @property
    def rate(self) -> float:
        """Successes per second."""
        return len(self.seconds) / self.wall if self.wall else 0.0


async def attempt(load: Load, operation: Operation) -> None:
    """Do it once; a failure is counted, not raised."""
    began = time.perf_counter()
    try:
        await operation()
    except Exception as error:
        load.errors.append(f"{type(error).__name__}: {error}"[:300])
        return
    load.seconds.append(time.perf_counter() - began)


async def pump(
    operation: Operation,
    *,
    concurrency: int,
    count: int | None = None,
    seconds: float | None = None,
) -> Load:
    """Repeat an operation from N loops until the count or the time is used up, whichever is first."""
    load = Load()
    began = time.perf_counter()
    left = count if count is not None else float("inf")
    until = began + (seconds if seconds is not None else float("inf"))

    async def loop() -> None:
        nonlocal left
        while left > 0 and time.perf_counter() < until and len(load.errors) < TOO_MANY_ERRORS:
            left -= 1
            await attempt(load, operation)

    await asyncio.gather(*(loop() for _ in range(concurrency)))
    load.wall = time.perf_counter() - began
    return load


async def ask_meanwhile(client: Client, *, seconds: float) -> Load:
    """Start two kinds of request at fixed moments, and put their times together."""
    create, ok = await asyncio.gather(
        paced(client.thread, per_second=API_RATE, seconds=seconds),
        paced(lambda: client.get("/ok"), per_second=API_RATE, seconds=seconds),
    )
    return Load(seconds=create.seconds + ok.seconds, errors=create.errors + ok.errors)


async def paced(operation: Operation, *, per_second: float, seconds: float) -> Load:
    """
    Start an operation at fixed moments, whether or not the earlier ones have been answered.

    A closed loop would ask a stalled server only once; users do not wait for each other.
    """
    load = Load()
    began = time.perf_counter()
    tasks = []
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
        tasks.append(asyncio.create_task(attempt(load, operation)))
    await asyncio.gather(*tasks)
    load.wall = time.perf_counter() - began
    return load
