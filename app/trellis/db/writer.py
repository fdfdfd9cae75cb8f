"""Group commit: one thread and one connection do everything that the runs of a process want from Postgres.

What arrives while a round commits goes into the next one, in order. A result is delivered only after the commit
that holds it, so a run that has been answered is durable. A failed round is repeated item by item, so that a bad
row fails only its own run; a database out of reach is waited for, as long as leases last.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Engine

from trellis.db import checkpoints
from trellis.db.engine import Tx, is_conflict, is_unavailable
from trellis.db.handlers import Handlers
from trellis.db.queries import Preparing
from trellis.db.rounds import Finish, Item, Locked, Read, Round, Take, Write
from trellis.db.vault import vault_of
from trellis.domain.runs import Claim
from trellis.errors import EncryptionFailed, Fenced, Unavailable
from trellis.processes import VitalThread
from trellis.telemetry import WRITER_RETRY, log

T = TypeVar("T")

#: Items of one transaction at most.
_ROUND = 512
#: How long rows that nobody waits for may wait, in seconds: what a crash may make a run do again.
_LINGER = 0.025
#: CPython's SimpleQueue waits for ever when a timeout has run out before it begins to wait: never ask for so little.
_LEAST_WAIT = 0.002
#: How often a claim is offered again while its thread is locked by somebody else.
_CLAIM_TRIES = 4

Waiter = Future[Any] | asyncio.Future[Any] | None
Entry = tuple[Item, Waiter]


class _Lazy:
    """
    Rows that nobody waits for, by the attempt they belong to.

    They wait for the next thing that somebody wants of the same attempt, usually its end, and are then written in
    one round with it instead of one by one in other runs' rounds; but not longer than `_LINGER`.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int], tuple[float, list[Entry]]] = {}

    def put(self, entry: Entry) -> None:
        key = _attempt_of(entry[0])
        assert key is not None
        self._waiting.setdefault(key, (time.monotonic() + _LINGER, []))[1].append(entry)

    def due_in_seconds(self) -> float | None:
        """When the oldest rows must be written. None: there are none. The oldest attempt stands first."""
        for due, _ in self._waiting.values():
            return max(_LEAST_WAIT, due - time.monotonic())
        return None

    def take(self, *, behind: Sequence[Entry]) -> list[Entry]:
        """The rows that the given items must find written, and those that have waited long enough."""
        wanted = {_attempt_of(item) for item, _ in behind}
        now = time.monotonic()
        keys = [k for k, (due, _) in self._waiting.items() if k in wanted or due <= now]
        return [entry for key in keys for entry in self._waiting.pop(key)[1]]

    def take_all(self) -> list[Entry]:
        taken = [entry for _, entries in self._waiting.values() for entry in entries]
        self._waiting.clear()
        return taken


def _attempt_of(item: Item) -> tuple[str, int] | None:
    claim: Claim | None = getattr(item, "claim", None)
    return (claim.run_id, claim.fence) if claim else None


class Writer:
    """The database thread of a process. `patience_seconds`: how long to wait for a database out of reach."""

    def __init__(
        self, engine: Engine, *, cache: checkpoints.Cache, patience_seconds: float = 10.0
    ) -> None:
        self._preparing = Preparing(engine)
        self._engine = self._preparing.engine
        self._cache = cache
        self._patience = patience_seconds
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._lazy = _Lazy()
        self._failed: dict[tuple[str, int], BaseException] = {}
        self._thread = VitalThread(self._main, name="database")
        self._thread.start()

    @property
    def handlers(self) -> Handlers | None:
        """The operator's encryption, if there is one."""
        return vault_of(self._engine).handlers

    def submit(self, item: Item) -> Future[Any]:
        """Queue an item from any thread; the future is resolved after the commit."""
        future: Future[Any] = Future()
        self._queue.put((item, future))
        return future

    async def do(self, item: Item) -> Any:
        """Queue an item and wait for its commit on the running loop."""
        future = asyncio.get_running_loop().create_future()
        self._queue.put((item, future))
        return await future

    def later(self, item: Write) -> None:
        """Queue rows that nobody waits for: the run's finish, behind them, fails if they do."""
        self._queue.put((item, None))

    def forget(self, claim: Claim) -> BaseException | None:
        """End the bookkeeping of an attempt. Returns what went wrong with its writes, if anything."""
        return self._failed.pop((claim.run_id, claim.fence), None)

    def failure(self, claim: Claim) -> BaseException | None:
        """What went wrong with the writes of this attempt so far, if anything."""
        return self._failed.get((claim.run_id, claim.fence))

    def close(self) -> None:
        """Commit what is queued, and stop."""
        self._queue.put(None)
        self._thread.join()

    def _main(self) -> None:
        while True:
            batch, closing = self._collect()
            if batch:
                self._settle(batch)
            if closing:
                return

    def _collect(self) -> tuple[list[Entry], bool]:
        """What the next round holds: everything that somebody waits for, and the rows that have waited long enough."""
        urgent: list[Entry] = []
        while len(urgent) < _ROUND:
            try:
                entry = self._next(wait=not urgent)
            except queue.Empty:
                break
            if entry is None:
                return [*self._lazy.take_all(), *urgent], True
            if entry[1] is None:
                self._lazy.put(entry)
            else:
                urgent.append(entry)
        return [*self._lazy.take(behind=urgent), *urgent], False

    def _next(self, *, wait: bool) -> Entry | None:
        """:raises queue.Empty: it is time for a round."""
        if not wait:
            return self._queue.get_nowait()
        due = self._lazy.due_in_seconds()
        return self._queue.get() if due is None else self._queue.get(timeout=due)

    def _settle(self, batch: Sequence[Entry]) -> None:
        items = [item for item, _ in batch]
        try:
            results = self._patiently(items)
        except Exception as error:
            results = self._singly(items) if len(items) > 1 else {id(items[0]): error}
        self._deliver(batch, results)

    def _patiently(self, items: Sequence[Item]) -> dict[int, Any]:
        """Run a round; while the database is out of reach, or a lock is in the way, again."""
        until, pause = time.monotonic() + self._patience, 0.02
        while True:
            try:
                return self._round(items)
            except Exception as error:
                if time.monotonic() > until or not self._may_pass(error):
                    raise _described(error) from error
                log().warning(WRITER_RETRY, items=len(items), error=str(error).split("\n")[0])
            for item in items:
                if isinstance(item, Take):
                    item.retried = True
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def _may_pass(self, error: Exception) -> bool:
        return is_unavailable(error) or is_conflict(error) or self._preparing.lost(error)

    def _round(self, items: Sequence[Item]) -> dict[int, Any]:
        self._seal(items)
        poisoned = {id(item): error for item in items if (error := self._poison(item))}
        todo = [item for item in items if id(item) not in poisoned]
        with self._engine.begin() as tx:
            results = Round(tx, todo, cache=self._cache).execute()
        return results | poisoned

    def _seal(self, items: Sequence[Item]) -> None:
        """Let handlers encrypt before the transaction begins. Where they fail, the attempt has failed."""
        vault = vault_of(self._engine)
        for item in items:
            if isinstance(item, Write) and vault.handlers and not item.rows.is_sealed:
                try:
                    item.rows = checkpoints.sealed(item.rows, vault)
                except EncryptionFailed as error:
                    self._failed.setdefault((item.claim.run_id, item.claim.fence), error)

    def _poison(self, item: Item) -> BaseException | None:
        """After a failed write of an attempt nothing of it may be written, nor may it count as a success."""
        if isinstance(item, Write | Finish):
            return self._failed.get((item.claim.run_id, item.claim.fence))
        return None

    def _singly(self, items: Sequence[Item]) -> dict[int, Any]:
        results: dict[int, Any] = {}
        for item in items:
            try:
                results |= self._patiently([item])
            except Exception as error:
                results[id(item)] = error
            self._note(item, results[id(item)])
        return results

    def _note(self, item: Item, result: Any) -> None:
        # What is fenced stays so without being noted; a graph that was left to itself would be noted for good.
        if (
            isinstance(item, Write)
            and isinstance(result, Exception)
            and not isinstance(result, Fenced)
        ):
            self._failed.setdefault((item.claim.run_id, item.claim.fence), result)

    def _deliver(self, batch: Sequence[Entry], results: dict[int, Any]) -> None:
        """Wake all who wait: the threads one by one, each event loop once."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = defaultdict(
            list
        )
        for item, waiter in batch:
            result = results[id(item)]
            self._note(item, result)
            if isinstance(item, Take) and isinstance(result, Locked) and self._again(item, waiter):
                continue
            result = None if isinstance(result, Locked) else result
            if isinstance(waiter, asyncio.Future):
                loops[waiter.get_loop()].append((waiter, result))
            elif waiter is not None:
                _resolve(waiter, result)
        for loop, pairs in loops.items():
            loop.call_soon_threadsafe(_resolve_all, pairs)

    def _again(self, item: Take, waiter: Waiter) -> bool:
        """Offer a claim once more while somebody else holds its thread; the sweep finds it later anyway."""
        item.tries += 1
        if item.tries >= _CLAIM_TRIES:
            return False
        timer = threading.Timer(0.005 * 4**item.tries, self._queue.put, ((item, waiter),))
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            # User code has used up all threads of the process. We must not die of it.
            return False
        return True


def _resolve(waiter: Future[Any] | asyncio.Future[Any], result: Any) -> None:
    if waiter.done():
        return
    if isinstance(result, BaseException):
        waiter.set_exception(result)
    else:
        waiter.set_result(result)


def _resolve_all(pairs: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for waiter, result in pairs:
        _resolve(waiter, result)


def _described(error: Exception) -> Exception:
    return Unavailable("The database is out of reach.") if is_unavailable(error) else error


class FencedBackend(checkpoints.Backend):
    """The database of one attempt at a run: its checkpoint rows count only while its claim holds."""

    def __init__(self, writer: Writer, claim: Claim) -> None:
        self._writer = writer
        self._claim = claim

    @property
    def handlers(self) -> Handlers | None:
        return self._writer.handlers

    def write(self, rows: checkpoints.Rows) -> Future[None]:
        return self._writer.submit(Write(claim=self._claim, rows=rows))

    def write_behind(self, rows: checkpoints.Rows) -> None:
        self._writer.later(Write(claim=self._claim, rows=rows))

    def read(self, query: Callable[[Tx], T]) -> Future[T]:
        return self._writer.submit(Read(query=query, claim=self._claim))
