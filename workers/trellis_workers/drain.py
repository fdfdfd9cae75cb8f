"""SIGTERM: stop claiming, let runs finish for a while, then hand back what is left at a superstep boundary."""

from __future__ import annotations

import threading
import time

from trellis.telemetry import WORKER_DRAINING, log
from trellis_workers.executor import Executor
from trellis_workers.host import Host

#: How long before the end of the grace period runs are asked to stop at their next superstep, in seconds…
_ASK = 5.0
#: … and how long before it they are cancelled wherever they are.
_CANCEL = 3.0


def drain(host: Host, executor: Executor) -> None:
    """Begin draining. Safe to call many times: platforms send SIGTERM more than once."""
    if host.draining.is_set():
        return
    host.draining.set()
    log().info(WORKER_DRAINING, runs=len(executor.attempts))
    threading.Thread(target=_empty, args=(host, executor), name="drain", daemon=True).start()


def _empty(host: Host, executor: Executor) -> None:
    end = time.monotonic() + host.settings.drain_seconds
    _wait(executor, until=end - _ASK)
    for attempt in list(executor.attempts):
        attempt.control.request_drain()
    _wait(executor, until=end - _CANCEL)
    for attempt in list(executor.attempts):
        if attempt.task is not None:
            host.loop.call_soon_threadsafe(attempt.task.cancel)


def _wait(executor: Executor, *, until: float) -> None:
    while executor.attempts and time.monotonic() < until:
        time.sleep(0.05)
