"""The life of a process for suspects: runs whose processes died so often that one more time would use up their budget.

A run that lost one process goes on at once beside others: most crashes are nobody's fault, and fifty runs must not
wait for each other. One that lost another is a suspect, and only ever executed here: it begins alone, and the next
begins when it has lasted half as long again as it did last time. If this process dies meanwhile it has been the one,
and is given up; those that died with it before are acquitted. A run is given up for no death but one that no other
run shared: a slow one that kills a process with several in it is alone for longer the next time, until it is found.
"""

from __future__ import annotations

import asyncio
import time

from trellis.db import runs
from trellis.telemetry import QUARANTINE_FAILED, log
from trellis_workers.drain import Drain
from trellis_workers.executor import Executor
from trellis_workers.host import Host

_LOOK_SECONDS = 0.2
#: A process without anything to do for this long ends; the parent starts another when it is needed.
_IDLE_SECONDS = 10.0


def work(host: Host, executor: Executor, leaving: Drain) -> None:
    """Execute suspects until there are none, or until SIGTERM. In the main thread."""
    idle_since = time.monotonic()
    while not host.draining.wait(_LOOK_SECONDS):
        if not executor.is_trying:
            _try_next(host, executor)
        if executor.is_busy:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > _IDLE_SECONDS:
            break
    leaving.wait()


def _try_next(host: Host, executor: Executor) -> None:
    try:
        with host.engine.begin() as tx:
            run = runs.suspect(tx)
    except Exception as error:
        log().warning(QUARANTINE_FAILED, error=str(error).split("\n")[0])
        return
    if run is not None:
        asyncio.run_coroutine_threadsafe(executor.execute(run.run_id, run.graph_id), host.loop)
        # The executor knows of it when what was put on the loop behind it has been done.
        host.wait(asyncio.sleep(0))
