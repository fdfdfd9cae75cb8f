"""The life of a process for suspects: runs that were in a process when it died, and may have been why.

They are executed here and nowhere else, so that nobody else dies of them. After the first death all of them at once
(`Ward.SHARED`): most deaths are nobody's fault, and fifty runs must not wait for each other. After one more, when
another would use up its budget, in a second process of this kind (`Ward.ALONE`): a run begins alone, and the next
begins when it has lasted half as long again as it did last time. If this process dies meanwhile it has been the one,
and is given up; those that died with it before are acquitted. A run is given up for no death but one that no other
run shared: a slow one that kills a process with several in it is alone for longer the next time, until it is found.
"""

from __future__ import annotations

import asyncio
import time

from trellis.db import runs
from trellis.domain.runs import Ward
from trellis.telemetry import QUARANTINE_FAILED, log
from trellis_workers.drain import Drain
from trellis_workers.executor import Executor
from trellis_workers.host import Host

_LOOK_SECONDS = 0.2
#: A process without anything to do for this long ends; the parent starts another when it is needed.
_IDLE_SECONDS = 10.0


def work(host: Host, executor: Executor, leaving: Drain, ward: Ward) -> None:
    """Execute suspects until there are none, or until SIGTERM. In the main thread."""
    idle_since = time.monotonic()
    while not host.draining.wait(_LOOK_SECONDS):
        if not executor.is_trying:
            _begin(host, executor, ward)
        if executor.is_busy:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > _IDLE_SECONDS:
            break
    leaving.wait()


def _begin(host: Host, executor: Executor, ward: Ward) -> None:
    """Begin the next run, or as many as there are places."""
    places = 1 if ward is Ward.ALONE else host.settings.slots - len(executor.attempts)
    try:
        with host.engine.begin() as tx:
            found = runs.suspects(tx, ward, limit=places)
    except Exception as error:
        log().warning(QUARANTINE_FAILED, error=str(error).split("\n")[0])
        return
    for run in found:
        asyncio.run_coroutine_threadsafe(executor.execute(run.run_id, run.graph_id), host.loop)
    # The executor knows of them when what was put on the loop behind them has been done.
    host.wait(asyncio.sleep(0))
