"""Find pending runs that nobody has heard of: a hint was lost, delayed on purpose, or the broker is down."""

from __future__ import annotations

import asyncio

from sqlalchemy import Engine

from trellis.db import runs
from trellis.dispatch.announce import Announcer
from trellis_workers.executor import Executor

#: How long a hint counts as on its way, in seconds, for a worker with free slots that hears nothing at all, or knows of
#: a process that died lately …
_QUIET_TTL_SECONDS = 2.0
#: … and for one that hears others: its queue may just be long.
_BUSY_TTL_SECONDS = 10.0
#: A worker that has heard nothing for this long is quiet.
_SILENCE_SECONDS = 1.0


def dispatch(
    engine: Engine,
    announcer: Announcer,
    executor: Executor,
    loop: asyncio.AbstractEventLoop,
    *,
    free_slots: int,
) -> int:
    """Announce due runs again; without a broker, execute them here. Returns how many were found."""
    if free_slots <= 0:
        return 0
    quiet = executor.silence_seconds > _SILENCE_SECONDS
    # By then every hint that died with a process has been looked for.
    bereft = executor.bereft_seconds < _BUSY_TTL_SECONDS
    ttl = _QUIET_TTL_SECONDS if quiet or bereft else _BUSY_TTL_SECONDS
    with engine.begin() as tx:
        found = runs.due(tx, limit=min(free_slots, 500), hint_ttl_seconds=ttl)
    for run in found:
        if not announcer(run.run_id, run.graph_id):
            asyncio.run_coroutine_threadsafe(executor.execute(run.run_id, run.graph_id), loop)
    return len(found)
