"""Producers, workers and sweepers on the real protocol, where everything goes wrong that can.

The code under test is trellis.db (runs, rounds, writer); the graph is a number of steps that each write a checkpoint.
Simulated is what surrounds it: processes that die, freeze beyond their lease and go on, hand runs back, hints that are
lost, doubled and reordered, and commits whose answer is lost.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from trellis.db import checkpoints, idempotency, runs
from trellis.db.checkpoints.codec import pack_body
from trellis.db.engine import new_engine
from trellis.db.owners import disown
from trellis.db.rounds import Finish, Release, Take, Write
from trellis.db.writer import Writer
from trellis.domain.idempotency import new_key
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim, Outcome, RunStatus, Ward
from trellis.errors import Fenced

LEASE = 0.4
_PROCESSES, _SLOTS, _PRODUCERS, _SWEEPERS, _THREADS = 4, 4, 3, 2, 8

_BODY = pack_body({"channel_versions": {}, "inline": {}})
_LOST_HINTS = 0.25
_DOUBLED_HINTS = 0.25
_LOST_ANSWERS = 0.05
_CRASHES, _FREEZES, _RELEASES = 0.12, 0.10, 0.05
_REPEATED_CREATES = 0.2
_WEBHOOKS = 0.3


class Simulation:
    """One run of everything, until as many runs as wanted are accepted and all are over."""

    def __init__(self, url: str, engine: Engine, *, seed: str, wanted: int) -> None:
        self._url = url
        self._engine = engine
        self._seed = seed
        self._wanted = wanted
        # Not a SimpleQueue: with several readers its get(timeout=…) can wait for ever (CPython 3.12).
        self._hints: queue.Queue[str] = queue.Queue()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [new_id() for _ in range(_THREADS)]
        self.accepted: set[str] = set()
        self.by_key: dict[str, set[str]] = {}
        self.happened: Counter[str] = Counter()
        self.failures: list[BaseException] = []

    def run(self, *, drain_seconds: float = 60) -> None:
        """Produce, drain, stop."""
        with self._engine.begin() as tx:
            for thread_id in self._threads:
                tx.exec_driver_sql(
                    "INSERT INTO thread (thread_id) VALUES (%(t)s::uuid)", {"t": thread_id}
                )
        producers = [self._start(self._produce, f"p{n}") for n in range(_PRODUCERS)]
        with ExitStack() as stack:
            others = [self._start(self._sweep, f"s{n}") for n in range(_SWEEPERS)]
            for n, ward in enumerate((Ward.SHARED, Ward.ALONE)):
                writer = self._writer(stack, _PROCESSES + n)
                others.append(
                    self._start(lambda rnd, w=writer, ward=ward: self._isolate(rnd, w, ward), ward)
                )
            for n in range(_PROCESSES):
                writer = self._writer(stack, n)
                others += [
                    self._start(lambda rnd, w=writer: self._work(rnd, w), f"w{n}.{slot}")
                    for slot in range(_SLOTS)
                ]
            for producer in producers:
                producer.join()
            self._drain(drain_seconds)
            self._over.set()
            for other in others:
                other.join()

    def _start(self, work: Callable[[random.Random], None], name: str) -> threading.Thread:
        rnd = random.Random(f"{self._seed}/{name}")

        def guarded() -> None:
            try:
                work(rnd)
            except BaseException as error:
                self.failures.append(error)
                self._over.set()

        thread = threading.Thread(target=guarded, name=name)
        thread.start()
        return thread

    def _count(self, what: str) -> None:
        with self._lock:
            self.happened[what] += 1

    def _writer(self, stack: ExitStack, n: int) -> Writer:
        """The database thread of a process. Now and then a commit succeeds and its answer is lost."""
        engine = new_engine(self._url, pool_size=1)
        stack.callback(engine.dispose)
        rnd = random.Random(f"{self._seed}/commit{n}")

        @event.listens_for(engine, "commit")
        def lose_answer(connection: Any) -> None:
            if rnd.random() < _LOST_ANSWERS:
                connection.connection.dbapi_connection.commit()
                self._count("answer lost")
                raise OperationalError("commit", {}, Exception("the answer was lost"))

        writer = Writer(engine, cache=checkpoints.Cache(), patience_seconds=5)
        stack.callback(writer.close)
        return writer

    # Producers

    def _produce(self, rnd: random.Random) -> None:
        while len(self.accepted) < self._wanted and not self._over.is_set():
            repeats = 3 if rnd.random() < _REPEATED_CREATES else 1
            row = self._row(rnd)
            if repeats == 1:
                self._accept(row)
            else:
                key = f"{self._seed}/{row['run_id']}"
                senders = [
                    threading.Thread(
                        target=self._accept_once, args=(key, {**row, "run_id": new_id()})
                    )
                    for _ in range(repeats)
                ]
                for sender in senders:
                    sender.start()
                for sender in senders:
                    sender.join()
            time.sleep(rnd.expovariate(1 / 0.03))

    def _row(self, rnd: random.Random) -> dict[str, Any]:
        webhook = "https://example.com/" if rnd.random() < _WEBHOOKS else None
        return {
            "run_id": new_id(),
            "thread_id": rnd.choice(self._threads),
            "tenant_id": "default",
            "assistant_id": new_id(),
            "graph_id": "g",
            "multitask_strategy": "enqueue",
            "metadata": {},
            "kwargs": {"webhook": webhook},
            "after_seconds": 0,
            "timeout_seconds": 60,
            "max_crashes": 3,
            "thread_metadata": {},
            "thread_config": {},
        }

    def _accept(self, row: dict[str, Any]) -> None:
        with self._engine.begin() as tx:
            assert runs.enqueue(tx, row)
        self._accepted(row["run_id"])

    def _accept_once(self, key: str, row: dict[str, Any]) -> None:
        given = new_key(key, owner="", method="POST", path="/runs", body=b"{}")
        with self._engine.begin() as tx:
            before = idempotency.reserve(tx, "default", given)
            if before is None:
                assert runs.enqueue(tx, row)
                idempotency.keep(tx, "default", given, [{"run_id": row["run_id"]}])
        run_id = before[0]["run_id"] if before else row["run_id"]
        self._count("create replayed" if before else "create with a key")
        with self._lock:
            self.by_key.setdefault(key, set()).add(run_id)
        if before is None:
            self._accepted(run_id)

    def _accepted(self, run_id: str) -> None:
        with self._lock:
            self.accepted.add(run_id)
        self._hint(random.Random(run_id), run_id)

    def _hint(self, rnd: random.Random, run_id: str) -> None:
        fate = rnd.random()
        if fate < _LOST_HINTS:
            self._count("hint lost")
            return
        self._hints.put(run_id)
        if fate > 1 - _DOUBLED_HINTS:
            self._count("hint doubled")
            self._hints.put(run_id)

    # Workers

    def _work(self, rnd: random.Random, writer: Writer) -> None:
        while not self._over.is_set():
            try:
                run_id = self._hints.get(timeout=0.05)
            except queue.Empty:
                continue
            self._claim(rnd, writer, run_id)

    def _isolate(self, rnd: random.Random, writer: Writer, ward: Ward) -> None:
        """A process that executes one suspect after the other."""
        while not self._over.is_set():
            with self._engine.begin() as tx:
                found = runs.suspects(tx, ward)
            if not found:
                time.sleep(0.02)
            for run in found:
                self._count(f"isolated, {ward}")
                self._claim(rnd, writer, run.run_id, ward=ward)

    def _claim(
        self, rnd: random.Random, writer: Writer, run_id: str, *, ward: Ward = Ward.OPEN
    ) -> None:
        # Each attempt is the only one of its owner, for each dies by itself.
        take = Take(run_id=run_id, owner=new_id(), lease_seconds=LEASE, ward=ward)
        taken = writer.submit(take).result(30)
        if taken is None:
            self._count("hint stale")
            return
        self._count("claimed")
        self._attempt(rnd, writer, taken.run.claim, take.owner)
        writer.forget(taken.run.claim)

    def _attempt(self, rnd: random.Random, writer: Writer, claim: Claim, owner: str) -> None:
        fate, steps = rnd.random(), rnd.randint(1, 6)
        for step in range(steps):
            time.sleep(rnd.uniform(0.001, 0.03))
            if step == steps // 2 and not self._survives(fate, rnd, writer, claim, owner):
                return
            self._renew(claim)
            write = Write(claim=claim, rows=_checkpoint(claim, step))
            if rnd.random() < 0.5:
                writer.later(write)
            elif isinstance(writer.submit(write).exception(30), Fenced):
                # A zombie that does not listen: it goes on, and must be stopped by the fence alone.
                self._count("write fenced")
        self._finish(rnd, writer, claim)

    def _survives(
        self, fate: float, rnd: random.Random, writer: Writer, claim: Claim, owner: str
    ) -> bool:
        """Whether the attempt goes on in this process."""
        if fate < _CRASHES:
            self._count("crash")
            if rnd.random() < 0.5:
                # Its parent lives, and has seen it.
                disown(self._url, owner)
            return False
        if fate < _CRASHES + _FREEZES:
            self._count("freeze")
            time.sleep(LEASE * 2.2)
        elif fate < _CRASHES + _FREEZES + _RELEASES:
            back = writer.submit(Release(claim=claim)).result(30)
            self._count("release")
            if back is not None:
                self._hint(rnd, back.run_id)
            return False
        return True

    def _renew(self, claim: Claim) -> None:
        with self._engine.begin() as tx:
            if not runs.renew(tx, [claim], lease_seconds=LEASE):
                self._count("renewal fenced")

    def _finish(self, rnd: random.Random, writer: Writer, claim: Claim) -> None:
        status = rnd.choice([RunStatus.SUCCESS] * 4 + [RunStatus.ERROR])
        future = writer.submit(Finish(claim=claim, outcome=Outcome(status=status)))
        error = future.exception(30)
        if isinstance(error, Fenced):
            self._count("finish fenced")
        elif error is not None:
            raise error
        else:
            self._count("finished")
            if (following := future.result().following) is not None:
                self._hint(rnd, following.run_id)

    # Sweepers

    def _sweep(self, rnd: random.Random) -> None:
        while not self._over.is_set():
            with self._engine.connect() as tx:
                lost: Sequence[Any] = runs.expired(tx, patience_seconds=60)
            for row in lost:
                with self._engine.begin() as tx:
                    ended = runs.rescue(tx, row["run_id"], row["thread_id"], backoff_seconds=0.01)
                if ended:
                    self._count(f"swept to {ended}")
            with self._engine.begin() as tx:
                unheard = runs.due(tx, limit=100, hint_ttl_seconds=0.3)
            for pending in unheard:
                self._count("hinted again")
                self._hint(rnd, pending.run_id)
            time.sleep(rnd.uniform(0.05, 0.15))

    def _drain(self, seconds: float) -> None:
        """Return when every run is over, or when none has ended for so long."""
        query = "SELECT count(*) FROM run WHERE status IN ('pending', 'running')"
        until, least = time.monotonic() + seconds, self._wanted
        while time.monotonic() < until and not self._over.is_set():
            with self._engine.connect() as tx:
                left = tx.exec_driver_sql(query).scalar_one()
            if not left:
                # A zombie may still be asleep: it has to wake up and fail before the count.
                time.sleep(LEASE * 3)
                return
            if left < least:
                until, least = time.monotonic() + seconds, left
            time.sleep(0.05)


def _checkpoint(claim: Claim, step: int) -> checkpoints.Rows:
    row = checkpoints.CheckpointRow(
        claim.thread_id,
        "",
        f"{claim.fence:09d}.{step}",
        None,
        claim.run_id,
        claim.fence,
        _BODY,
        "{}",
    )
    return checkpoints.Rows(checkpoints=[row])
