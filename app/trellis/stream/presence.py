"""Vouch in Postgres for clients whose leaving cancels their run, so that it does when this process dies with them.

Not in Redis: a key that is gone would not say whether its process died or Redis was flushed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from trellis.db import presence as rows
from trellis.telemetry import PRESENCE_FAILED, log

#: How often the clients that are here are vouched for, in seconds …
_EVERY_SECONDS = 3.0
#: … and for how long: two attempts may fail.
_HOLDS_SECONDS = 10.0
#: How long a process that ends waits until that is written.
_CLOSE_SECONDS = 1.0


class Presence:
    """The clients of this process. Its thread starts with the first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._here: Counter[str] = Counter()
        self._new: set[str] = set()
        self._gone: set[str] = set()
        self._awake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def of(self, run_id: str) -> Iterator[None]:
        """Vouch for a client of this run."""
        with self._lock:
            self._here[run_id] += 1
            self._new.add(run_id)
        self._wake()
        try:
            yield
        finally:
            self._leave(run_id)

    def _leave(self, run_id: str) -> None:
        with self._lock:
            self._here[run_id] -= 1
            if self._here[run_id] <= 0:
                del self._here[run_id]
                self._gone.add(run_id)
        self._wake()

    def forgive(self, run_id: str) -> None:
        """A client follows this run whose leaving is to change nothing: it may have lost the process it came by first."""
        with self._lock:
            if run_id not in self._here:
                self._gone.add(run_id)
        self._wake()

    def close(self) -> None:
        """Let everybody go: a client that is cut off because this process ends has not left."""
        with self._lock:
            self._gone.update(self._here)
            self._here.clear()
        self._closing = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join(timeout=_CLOSE_SECONDS)

    def _wake(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="presence", daemon=True)
                self._thread.start()
        self._awake.set()

    def _main(self) -> None:
        next_at = time.monotonic() + _EVERY_SECONDS
        while not self._closing:
            self._awake.wait(max(0.0, next_at - time.monotonic()))
            self._awake.clear()
            is_due = time.monotonic() >= next_at
            if is_due:
                next_at = time.monotonic() + _EVERY_SECONDS
            self._write(everybody=is_due)
        self._write(everybody=False)

    def _write(self, *, everybody: bool) -> None:
        with self._lock:
            present = [run_id for run_id in self._here if everybody or run_id in self._new]
            gone = [run_id for run_id in self._gone if run_id not in self._here]
            self._new.clear()
            self._gone.clear()
        if not (present or gone):
            return
        try:
            with self._engine.begin() as tx:
                rows.forget(tx, gone)
                rows.keep(tx, present, seconds=_HOLDS_SECONDS)
        except Exception as error:
            log().warning(PRESENCE_FAILED, runs=len(present), error=str(error).split("\n")[0])
            with self._lock:
                self._gone.update(gone)
