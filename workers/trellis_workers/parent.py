"""The parent of the worker processes: starts them, starts them again, replaces them, passes on a stop.

It stays small: no Celery, no LangGraph, no SQLAlchemy, nothing of the user's. Children are new interpreters.

A child that dies leaves leases behind. Its parent knows that it is dead, which nobody else can, and ends them at
once; a living child is told to look for them, a new one looks by itself. Without a parent (it was killed too) they
run out.
"""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
from contextlib import suppress

import psycopg2

from trellis.db.owners import disown
from trellis.domain.runs import Ward
from trellis.processes import describe_exit
from trellis.settings import Settings
from trellis.telemetry import LEASES_EXPIRED, WORKER_DIED, WORKER_NOT_STARTED, WORKER_RECYCLED, log
from trellis_workers.channel import CANNOT_START, RESCUE
from trellis_workers.kept import Kept

#: Longest between two looks at the children, in seconds. Deaths and signals wake us at once.
_LOOK_SECONDS = 0.5
#: A child that took runs for this long was well; its next death is the first of a row.
_WELL_SECONDS = 10.0
#: Deaths in a row after which starting again waits, 0.5 s and then twice as long each time …
_FREE_DEATHS = 2
#: … up to this.
_MAX_PAUSE_SECONDS = 15.0
#: A child is not replaced for its memory before this, or a limit below what it needs would replace it all the time.
_MIN_AGE_SECONDS = 5.0
#: A child drains within the drain time. One that is still there this much later is stuck.
_STUCK_SECONDS = 2.0
#: A quarantine that dies is started again when somebody has waited for it so long.
_QUARANTINE_PAUSE_SECONDS = 1.0
#: Where the runs of a dead process go on.
_NEXT_WARD = {Ward.OPEN: Ward.SHARED, Ward.SHARED: Ward.ALONE}
#: Leases end by themselves by then.
_DISOWN_SECONDS = 15.0


class Parent:
    """Keeps worker processes until it is asked to stop. For the main thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: list[Kept] = []
        self._retiring: Kept | None = None  #: to be drained as soon as its replacement is ready
        self._deaths = 0
        self._start_at = 0.0
        self._quarantine_at = {Ward.SHARED: 0.0, Ward.ALONE: 0.0}
        self._needed: set[Ward] = set()  #: where runs go on whose process died
        self._was_ready = False
        self._is_stopping = False
        self._exit_code = 0
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Return the exit code when the last child has ended."""
        waking = self._listen_to_signals()
        while True:
            self._tend(time.monotonic())
            if self._is_stopping and not self._children:
                return self._exit_code
            for key, _ in self._selector.select(_LOOK_SECONDS):
                if key.data is None:
                    os.read(waking, 4096)
                else:
                    self._hear(key.data)

    def _listen_to_signals(self) -> int:
        """A signal ends the wait in `select`; what it asks for is done outside its handler."""
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        self._selector.register(reading, selectors.EVENT_READ, None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return reading

    def _stop(self, *_: object) -> None:
        self._is_stopping = True

    def _tend(self, now: float) -> None:
        for child in list(self._children):
            code = child.exit_code()
            if code is not None:
                self._bury(child, code)
            elif child.leaving_seconds > self._settings.drain_seconds + _STUCK_SECONDS:
                child.kill()
        if self._is_stopping:
            self._end()
            return
        self._retire()
        while self._is_one_missing() and now >= self._start_at:
            self._start(Ward.OPEN)
        self._isolate(now)

    def _end(self) -> None:
        """Ask each child once, however often we were asked."""
        for child in self._children:
            if not child.is_leaving:
                child.drain()

    def _fresh(self) -> list[Kept]:
        """Those that are to stay."""
        staying = (c for c in self._children if not c.is_leaving and c is not self._retiring)
        return [c for c in staying if c.ward is Ward.OPEN]

    def _is_one_missing(self) -> bool:
        return len(self._fresh()) < self._settings.worker_processes

    def _isolate(self, now: float) -> None:
        """Start a quarantine when there are runs that only such may execute."""
        seen, self._needed = self._needed, set()
        for child in self._children:
            seen |= child.seen
            child.seen.clear()
        there = {child.ward for child in self._children if not child.is_leaving}
        for ward in sorted(seen - there):
            if now >= self._quarantine_at[ward]:
                self._quarantine_at[ward] = now + _QUARANTINE_PAUSE_SECONDS
                self._start(ward)

    def _start(self, ward: Ward) -> None:
        """Start a child, or wait with that until the system has room for it: those that are there go on."""
        try:
            child = Kept(ward)
        except OSError as error:
            log().warning(WORKER_NOT_STARTED, error=str(error))
            self._deaths = max(self._deaths, _FREE_DEATHS) + 1
            self._pause()
            return
        self._selector.register(child.line, selectors.EVENT_READ, child)
        self._children.append(child)

    def _hear(self, child: Kept) -> None:
        child.hear()
        self._was_ready |= child.is_ready and child.ward is Ward.OPEN

    def _retire(self) -> None:
        """Replace at most one child at a time: it goes on until the new one is ready."""
        if self._retiring is None:
            worn = (child for child in self._fresh() if self._is_worn(child))
            self._retiring = next(worn, None)
        elif self._retiring.is_leaving:
            self._retiring = None
        elif not self._is_one_missing() and all(child.is_ready for child in self._fresh()):
            self._retiring.drain()
            self._retiring = None

    def _is_worn(self, child: Kept) -> bool:
        limit = self._settings.worker_max_memory_mb
        if not child.is_ready:
            return False
        if child.is_worn:
            log().info(WORKER_RECYCLED, pid=child.pid, reason="worn")
            return True
        if not limit or child.age_seconds < _MIN_AGE_SECONDS or child.resident_mb <= limit:
            return False
        log().info(WORKER_RECYCLED, pid=child.pid, reason="memory", mb=child.resident_mb)
        return True

    def _bury(self, child: Kept, code: int) -> None:
        self._hear(child)
        self._selector.unregister(child.line)
        child.close()
        self._children.remove(child)
        if child is self._retiring:
            self._retiring = None
        # Not by its code alone: a node may call os._exit(0).
        has_drained = code == 0 and child.is_leaving
        if not has_drained and (code != CANNOT_START or child.is_ready):
            self._disown(child)
        if code == CANNOT_START and not self._was_ready:
            self._exit_code = code
            self._stop()
        elif not child.is_leaving and not self._is_stopping:
            self._note_death(child, code)

    def _note_death(self, child: Kept, code: int) -> None:
        """Start again at once; only deaths in a row earn a pause."""
        log().warning(WORKER_DIED, pid=child.pid, how=describe_exit(code))
        if child.ward is not Ward.OPEN:
            return
        well = child.is_ready and child.age_seconds > _WELL_SECONDS
        self._deaths = 1 if well else self._deaths + 1
        if self._deaths > _FREE_DEATHS:
            self._pause()

    def _pause(self) -> None:
        pause = 0.5 * 2.0 ** min(self._deaths - _FREE_DEATHS - 1, 10)
        self._start_at = time.monotonic() + min(pause, _MAX_PAUSE_SECONDS)

    def _disown(self, child: Kept) -> None:
        """In a thread: a database out of reach must not hold up a signal or a start."""
        thread = threading.Thread(target=self._end_leases, args=(child,), daemon=True)
        # No more threads: then they run out.
        with suppress(RuntimeError):
            thread.start()

    def _end_leases(self, dead: Kept) -> None:
        until = time.monotonic() + _DISOWN_SECONDS
        while time.monotonic() < until:
            try:
                runs = disown(self._settings.database_url, dead.owner)
            except psycopg2.Error:
                time.sleep(0.5)
                continue
            log().info(LEASES_EXPIRED, owner=dead.owner, runs=runs)
            if runs and dead.ward in _NEXT_WARD:
                self._needed.add(_NEXT_WARD[dead.ward])
            for child in list(self._children):
                child.tell(RESCUE)
            return
