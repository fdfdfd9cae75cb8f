"""Append the events of this process's runs to their logs: never waits, never raises, bounded."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from redis.exceptions import NoScriptError, RedisError, ResponseError

from trellis import telemetry
from trellis.domain.runs import Claim
from trellis.stream import log, sse

#: One script call holds Redis for all others: about 1 ms at these sizes.
_BATCH_EVENTS = 500
_BATCH_BYTES = 1 << 20
#: Runs in one round trip.
_BATCH_RUNS = 256


@dataclass(kw_only=True, frozen=True, slots=True)
class Limits:
    """How much is kept, where, and for how long."""

    #: Entries that Redis keeps of a run; older ones are trimmed, and late readers are told of the gap.
    max_entries: int = 10_000
    #: Bytes that Redis keeps of a run, about. States may be large, and 10 000 of them are too many.
    max_log_bytes: int = 32 << 20
    #: RESUMABLE_STREAM_TTL_SECONDS: how long a finished run can be replayed.
    retain_seconds: int = 120
    #: A run that no client may replay needs its log only until the clients that wait have read it.
    retain_unresumable_seconds: int = 30
    #: Renewed with every event; bounds what a run leaves behind whose worker died.
    running_seconds: int = 3_600
    #: Larger final values are read from Postgres by whoever needs them.
    max_values_bytes: int = 1 << 20
    #: What may wait in this process while Redis is slow or down.
    max_waiting_events: int = 50_000
    max_waiting_bytes: int = 64 << 20
    #: After this long without Redis, an end is not sent any more: readers have had it from Postgres.
    end_patience_seconds: float = 60.0
    #: A round trip that takes longer is begun again, on a new connection.
    timeout_seconds: float = 5.0


@dataclass(kw_only=True, slots=True, eq=False)
class _Log:
    """What waits for one attempt's log."""

    run_id: str
    fence: int
    keys: tuple[str, ...]
    graph_id: str = ""
    resumable: bool = True
    sent: int = 0  #: the highest n given out
    waiting: deque[tuple[int, bytes, bytes]] = field(default_factory=deque)
    waiting_bytes: int = 0
    in_flight: int = 0  #: of those waiting, the first ones, which Redis may already have
    ended_at: float | None = None
    leaving: bool = False
    fenced: bool = False
    dropped: int = 0


class EventWriter:
    """One per worker process, used on its event loop only.

    Natural batching: while one round trip is under way, what arrives meanwhile waits for the next.
    There is no linger, so an idle writer sends at once, and a busy one sends more at a time.
    """

    def __init__(self, redis_url: str, *, prefix: str = "", limits: Limits | None = None) -> None:
        self._prefix = prefix
        self._limits = limits or Limits()
        self._line = log.Line(redis_url, timeout_seconds=self._limits.timeout_seconds)
        self._sha: bytes = b""
        self._logs: dict[tuple[str, int], _Log] = {}
        self._dirty: dict[_Log, None] = {}
        self._task: asyncio.Task[None] | None = None
        self.waiting_events = 0
        self.waiting_bytes = 0

    @property
    def open_logs(self) -> int:
        """How many attempts it still knows."""
        return len(self._logs)

    def start(
        self,
        claim: Claim,
        *,
        resumable: bool = True,
        tenant_id: str | None = None,
        graph_id: str = "",
    ) -> None:
        """
        Raise the run's fence, so that an attempt that was replaced appends no more.

        Who follows the tenant's thread hears that the attempt begins.
        """
        run = self._log(claim)
        run.resumable = resumable
        if tenant_id is not None:
            run.graph_id = graph_id
            run.keys = (*run.keys[:2], log.claims_key(self._prefix, tenant_id, claim.thread_id))
        self._wake(run)

    def send(self, claim: Claim, event_name: str, data: bytes) -> None:
        """Append an event, soon. It is dropped, and readers are told of a gap, if Redis cannot keep up."""
        run = self._log(claim)
        if run.fenced or run.ended_at is not None:
            return
        self._put(run, event_name.encode("utf-8", "replace"), sse.frame(event_name, data))

    def end(
        self, claim: Claim, status: str, payload: bytes | None, *, is_paused: bool = False
    ) -> None:
        """Append the end, with the final values. Only after the commit that made it true."""
        run = self._log(claim)
        if run.fenced or run.ended_at is not None:
            return
        if payload is None or len(payload) > self._limits.max_values_bytes:
            payload = b""
        run.ended_at = asyncio.get_running_loop().time()
        self._put(run, (status + log.PAUSED * is_paused).encode(), payload)

    def leave(self, claim: Claim) -> None:
        """Forget a run that goes on elsewhere: released, or lost. What waits is still sent."""
        run = self._logs.get((claim.run_id, claim.fence))
        if run is not None:
            run.leaving = True
            self._forget_if_done(run)

    async def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until nothing waits. False: Redis did not take it all in time."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self._dirty and self._task is not None and not self._task.done():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait({self._task}, timeout=left)
        return not self._dirty

    async def close(self, timeout_seconds: float = 2.0) -> None:
        """Send what waits, as far as Redis takes it, and disconnect."""
        await self.flush(timeout_seconds)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._line.disconnect()

    def _log(self, claim: Claim) -> _Log:
        found = self._logs.get((claim.run_id, claim.fence))
        if found is not None:
            return found
        keys = log.stream_key(self._prefix, claim.run_id), log.fence_key(self._prefix, claim.run_id)
        run = _Log(run_id=claim.run_id, fence=claim.fence, keys=keys)
        self._logs[claim.run_id, claim.fence] = run
        return run

    def _put(self, run: _Log, name: bytes, data: bytes) -> None:
        run.sent += 1
        run.waiting.append((run.sent, name, data))
        self._count(run, 1, len(data))
        if (
            self.waiting_events > self._limits.max_waiting_events
            or self.waiting_bytes > self._limits.max_waiting_bytes
        ):
            # The largest buffer goes: a run that floods must not cost the quiet ones theirs.
            largest = max(self._dirty, key=lambda each: each.waiting_bytes, default=run)
            if not self._drop_waiting(largest):
                self._drop_waiting(run)
        self._wake(run)

    def _count(self, run: _Log, events: int, size: int) -> None:
        run.waiting_bytes += size
        self.waiting_events += events
        self.waiting_bytes += size

    def _wake(self, run: _Log) -> None:
        self._dirty[run] = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain())

    def _drop_waiting(self, run: _Log) -> int:
        """Drop all that one run has waiting, but what is on its way and its end. Returns how much."""
        kept = list(run.waiting)[: run.in_flight]
        dropped = list(run.waiting)[run.in_flight :]
        if dropped and run.ended_at is not None:
            n, status, _ = dropped.pop()
            kept.append((n, status, b""))
        if dropped and run.dropped == 0:
            telemetry.log().warning(
                telemetry.STREAM_DROPPED, run_id=run.run_id, events=len(dropped)
            )
        run.waiting = deque(kept)
        run.dropped += len(dropped)
        self._count(run, -len(dropped), sum(len(data) for *_, data in kept) - run.waiting_bytes)
        return len(dropped)

    async def _drain(self) -> None:
        failures = 0
        while self._dirty:
            try:
                await self._round()
                failures = 0
            except (RedisError, OSError) as error:
                failures += 1
                await self._bear(failures, error)

    async def _bear(self, failures: int, error: Exception) -> None:
        """Wait before the next round. The first failure is most often a connection that went stale while idle."""
        if failures == 1:
            return
        if failures == 2:
            telemetry.log().warning(telemetry.STREAM_REDIS_DOWN, error=str(error))
        self._give_up_old_ends()
        await asyncio.sleep(min(2.0, 0.05 * 2.0**failures) * random.uniform(0.5, 1))

    async def _round(self) -> None:
        """Send a batch of every run that has something waiting, in one round trip."""
        runs = list(self._dirty)[:_BATCH_RUNS]
        for run in runs:  # to the end of the queue: the next round begins with those left over
            del self._dirty[run]
            self._dirty[run] = None
        if not self._sha:
            (self._sha,) = await self._line.ask(("SCRIPT", "LOAD", log.APPEND))
        answers = await self._line.ask(*[self._append(run) for run in runs])
        for run, answer in zip(runs, answers, strict=True):
            self._settle(run, answer)
        if failure := next((a for a in answers if _is_passing(a)), None):
            raise failure

    def _append(self, run: _Log) -> tuple[str | bytes | int, ...]:
        batch = _batch(run.waiting)
        run.in_flight = len(batch)
        ends = run.ended_at is not None and len(batch) == len(run.waiting)
        command: list[str | bytes | int] = ["EVALSHA", self._sha, len(run.keys), *run.keys]
        command += [run.fence, self._limits.max_entries, self._limits.max_log_bytes]
        command += [self._seconds_to_live(run, ends), int(ends), run.graph_id]
        for entry in batch:
            command += entry
        return tuple(command)

    def _seconds_to_live(self, run: _Log, ends: bool) -> int:
        if not ends:
            return self._limits.running_seconds
        if run.resumable:
            return self._limits.retain_seconds
        return min(self._limits.retain_seconds, self._limits.retain_unresumable_seconds)

    def _settle(self, run: _Log, answer: object) -> None:
        """Take what Redis has, or will never have, from what waits."""
        count, run.in_flight = run.in_flight, 0
        if isinstance(answer, NoScriptError):
            self._sha = b""
        if _is_passing(answer):
            return
        if isinstance(answer, Exception):
            telemetry.log().warning(telemetry.STREAM_REFUSED, run_id=run.run_id, error=str(answer))
        elif answer == 0:
            run.fenced = True
            count = len(run.waiting)
        taken = [run.waiting.popleft() for _ in range(count)]
        self._count(run, -count, -sum(len(data) for *_, data in taken))
        if not run.waiting:
            self._dirty.pop(run, None)
            self._forget_if_done(run)

    def _forget_if_done(self, run: _Log) -> None:
        if not run.waiting and run not in self._dirty and (run.leaving or run.ended_at is not None):
            self._logs.pop((run.run_id, run.fence), None)

    def _give_up_old_ends(self) -> None:
        oldest = asyncio.get_running_loop().time() - self._limits.end_patience_seconds
        for run in [each for each in self._dirty if each.ended_at and each.ended_at < oldest]:
            run.in_flight = len(run.waiting)
            self._settle(run, 1)


def _batch(waiting: Iterable[tuple[int, bytes, bytes]]) -> list[tuple[int, bytes, bytes]]:
    """The first of what waits, as much as one script call may take."""
    batch: list[tuple[int, bytes, bytes]] = []
    size = 0
    for entry in waiting:
        size += len(entry[2])
        if batch and (size > _BATCH_BYTES or len(batch) >= _BATCH_EVENTS):
            break
        batch.append(entry)
    return batch


def _is_passing(answer: object) -> bool:
    """An error that will pass: the script is not loaded, the server is loading, full, a replica, …"""
    if not isinstance(answer, Exception):
        return False
    return not (isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"))
