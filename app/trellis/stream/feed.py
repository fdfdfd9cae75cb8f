"""Follow a thread: its attempts one after the other, each from the log of its run, for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from trellis import telemetry
from trellis.domain import places
from trellis.domain.places import Place
from trellis.domain.runs import RunState, RunStatus
from trellis.stream.claims import Attempt, Watch
from trellis.stream.entries import BEAT, Beat, End, Event, Item
from trellis.stream.reader import Reader

#: A thread on which nothing happens is looked up in Postgres this often, in seconds, at random between the two: only
#: a claim that Redis forgot before it was read is found that way.
_IDLE_CHECK = (20.0, 40.0)
#: After Redis failed; not all threads in the same moment.
_DOUBT_CHECK = (2.0, 10.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where a follower begins, as Postgres has it."""

    fence: int  #: of the thread: attempts above it are yet to begin
    place: Place = places.START  #: behind what the client has had
    due: Sequence[Attempt] = ()  #: those that have begun, and are to be told
    after: str = "0"  #: from where on: "0" is from their start, "$" is from now on

    @property
    def settled(self) -> Place:
        """Behind all runs that were over: they are told before the empty portion."""
        live = min((each.fence for each in self.due if not each.is_over), default=self.fence + 1)
        return Place(live - 1, places.END)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """What Postgres is asked."""

    state: Callable[[str], Awaitable[RunState | None]]  #: of a run; None: there is none
    attempts: Callable[[int], Awaitable[Sequence[Attempt]]]  #: of the thread, above a fence
    #: Whether an attempt is one of the thread's, and the thread for who follows it.
    visible: Callable[[Attempt], Awaitable[bool]]


#: What came together: of which attempt, or of none (a beat, or everything that was there before has been told).
Told = tuple[Attempt | None, Sequence[Item]]


async def told(
    reader: Reader, tenant_id: str, thread_id: str, *, start: Start, ask: Ask
) -> AsyncGenerator[Told, None]:
    """
    Yield what happens on a thread, attempt by attempt. Ends when the process does.

    A change of the state by hand has no items. A run ends with an End. It is broken off before that if another one has
    its turn while it waits for its next attempt; then it is told from its start again. When the runs that were over at
    the start have been told, an empty portion follows.
    """
    watch = reader.claims.watch(tenant_id, thread_id, after=start.fence)
    watch.heard[:0] = start.due
    is_new = True
    over = ""  #: the run whose end was told last
    try:
        while not watch.closed:
            if is_new and not (watch.heard and watch.heard[0].is_over):
                is_new = False
                yield None, ()
            if watch.misses:
                await _fill(watch, ask)
            if watch.heard:
                attempt = watch.take()
                if attempt.run_id and attempt.run_id == over:
                    continue
                is_new_to_us = attempt.fence > start.fence
                if is_new_to_us and not await ask.visible(attempt):
                    continue
                if not attempt.run_id:
                    yield attempt, ()
                    continue
                after = "0" if is_new_to_us else start.after
                async with aclosing(_run(reader, attempt, watch, ask, after=after)) as portions:
                    async for portion in portions:
                        yield portion
                        if any(isinstance(item, End) for item in portion[1][-1:]):
                            over = attempt.run_id
            else:
                async for beat in _quiet(watch, ask, reader.beat_seconds):
                    yield None, (beat,)
    finally:
        reader.claims.leave(watch)


async def _run(
    reader: Reader, attempt: Attempt, watch: Watch, ask: Ask, *, after: str
) -> AsyncGenerator[Told, None]:
    """A run from its start, or from now on, to its end, with all its attempts."""
    superseded = False

    async def status() -> RunState | None:
        nonlocal superseded
        state = await ask.state(attempt.run_id)
        # It crashed, and waits for its next attempt; meanwhile another one has its turn.
        others = any(each.run_id != attempt.run_id for each in watch.heard)
        superseded = others and state is not None and state.status == RunStatus.PENDING
        return None if superseded else state

    batches = reader.batches(attempt.run_id, after=after, status=status, is_over=attempt.is_over)
    async with aclosing(batches):
        async for items in batches:
            mine = _before_others(attempt, items, watch)
            if superseded and isinstance(items[-1], End):
                mine = mine[:-1]
            yield attempt, mine
            if len(mine) < len(items):
                return
    while watch.heard and watch.heard[0].run_id == attempt.run_id and not watch.misses:
        watch.take()


def _before_others(attempt: Attempt, items: Sequence[Item], watch: Watch) -> Sequence[Item]:
    """The items up to the first one that comes after another run's attempt."""
    next_fence = min(
        (each.fence for each in watch.heard if each.run_id != attempt.run_id), default=None
    )
    if next_fence is None:
        return items
    for index, item in enumerate(items):
        if isinstance(item, Event | End) and item.fence > next_fence:
            return items[:index]
    return items


async def _quiet(watch: Watch, ask: Ask, beat_seconds: float) -> AsyncGenerator[Beat, None]:
    """Wait for the next attempt, with a beat after each silence."""
    loop = asyncio.get_running_loop()
    look_at = loop.time() + random.uniform(*_IDLE_CHECK)
    beat_at = loop.time() + beat_seconds
    is_hurried = False
    while not (watch.heard or watch.closed):
        if watch.doubts and not is_hurried:
            is_hurried = True
            look_at = min(look_at, loop.time() + random.uniform(*_DOUBT_CHECK))
        watch.doubts = False
        if loop.time() >= look_at:
            is_hurried = False
            look_at = loop.time() + random.uniform(*_IDLE_CHECK)
            await _look(watch, ask)
        elif loop.time() >= beat_at:
            beat_at = loop.time() + beat_seconds
            yield BEAT
        else:
            await watch.change(min(beat_at, look_at) - loop.time())


async def _fill(watch: Watch, ask: Ask) -> None:
    """Ask Postgres for attempts that are counted before the next one, but are told of after it."""
    try:
        watch.insert(await ask.attempts(watch.taken))
    except Exception as error:  # the database: what is heard goes on
        telemetry.log().debug(telemetry.STREAM_READER_FAILED, error=str(error))
        watch.insert(())


async def _look(watch: Watch, ask: Ask) -> None:
    """Ask Postgres for attempts that Redis did not tell of."""
    try:
        watch.tell(await ask.attempts(watch.fence))
    except Exception as error:  # the database: it is asked again
        telemetry.log().debug(telemetry.STREAM_READER_FAILED, error=str(error))
