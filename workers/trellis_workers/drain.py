"""SIGTERM: stop claiming, let runs finish for a while, then hand back what is left at a superstep boundary."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from trellis.db.rounds import Release
from trellis.errors import TrellisError
from trellis.processes import VitalThread
from trellis.telemetry import RUN_RELEASED, WORKER_DRAINING, log
from trellis_workers.executor import Attempt, Executor
from trellis_workers.host import Host

#: How long before the end of the grace period runs are asked to stop at their next superstep, in seconds…
_ASK = 5.0
#: … how long before it they are cancelled wherever they are …
_CANCEL = 3.0
#: … and how long before it those that do not even end then are taken from their nodes.
_TAKE = 1.5
#: How long Celery may take to let go of its broker once no run is left.
_LEAVE = 5.0


class Drain:
    """The end of a worker process. `begun` is called once it takes no more runs."""

    def __init__(self, host: Host, executor: Executor, *, begun: Callable[[], None]) -> None:
        self._host = host
        self._executor = executor
        self._begun = begun
        self._is_empty = threading.Event()
        self._has_left = False
        self._asked, self._asking = os.pipe()
        os.set_blocking(self._asking, False)
        VitalThread(self._main, name="drain").start()

    def begin(self) -> None:
        """
        Begin. In a signal's handler, and any number of times: platforms send SIGTERM more than once.

        It takes no lock, not even an event's: what the signal has interrupted may hold it, and would never let it go.
        """
        with contextlib.suppress(BlockingIOError):
            os.write(self._asking, b".")

    def wait(self) -> None:
        """Return when no run is left; the process is to end by itself now. Without SIGTERM, begin first."""
        self.begin()
        self._is_empty.wait()
        self._has_left = True

    def _main(self) -> None:
        os.read(self._asked, 1)
        self._host.draining.set()
        end = time.monotonic() + self._host.settings.drain_seconds
        log().info(WORKER_DRAINING, runs=len(self._executor.attempts))
        self._begun()
        self._empty(end)
        self._is_empty.set()
        self._leave(min(end, time.monotonic() + _LEAVE))

    def _empty(self, end: float) -> None:
        executor = self._executor
        _wait(executor, until=end - _ASK)
        for attempt in list(executor.attempts):
            attempt.control.request_drain()
        _wait(executor, until=end - _CANCEL)
        for attempt in list(executor.attempts):
            # Again: it may have begun since, and would take our cancelling for a failure of its own.
            attempt.control.request_drain()
            if attempt.task is not None:
                self._host.loop.call_soon_threadsafe(attempt.task.cancel)
        _wait(executor, until=end - _TAKE)
        self._take_back(list(executor.attempts))

    def _take_back(self, attempts: list[Attempt]) -> None:
        """
        Hand back runs whose nodes ignore that they are cancelled, or block the loop.

        From here on they are fenced. No crash of theirs: the lease did not run out.
        """
        writer = self._host.writer
        released = [(a, writer.submit(Release(claim=a.run.claim))) for a in attempts]
        for attempt, future in released:
            self._host.keeper.let_go(attempt.run.claim)
            self._announce(future)

    def _announce(self, released: Future[Any]) -> None:
        try:
            back = released.result(_TAKE)
        except (TrellisError, TimeoutError):
            return
        if back is not None:
            log().info(RUN_RELEASED, run_id=back.run_id)
            self._host.announcer(back.run_id, back.graph_id)

    def _leave(self, deadline: float) -> None:
        """End the process by force if a node or a silent broker keeps it from ending."""
        while time.monotonic() < deadline:
            time.sleep(0.05)
        if not (self._has_left and not self._executor.is_busy):
            os._exit(0)


def _wait(executor: Executor, *, until: float) -> None:
    while executor.is_busy and time.monotonic() < until:
        time.sleep(0.05)
