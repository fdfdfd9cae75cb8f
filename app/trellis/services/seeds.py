"""Threads that are created with a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trellis.errors import Conflict, TrellisError
from trellis.runtime import Runtime
from trellis.services import state_updates, threads
from trellis.services.state_updates import Update
from trellis.services.threads import New

Row = Mapping[str, Any]


def create(
    rt: Runtime, tenant_id: str, new: New, supersteps: Sequence[Sequence[Update]]
) -> tuple[Row, str | None]:
    """
    Make a thread, and change its state superstep by superstep; one that is there already stays as it is.

    Returns the thread, and what went wrong with its state if something did: the thread is there all the same.

    :raises Conflict: the id is taken.
    """
    try:
        threads.create(rt, tenant_id, replace(new, keep_existing=False))
    except Conflict:
        if not new.keep_existing:
            raise
        return threads.create(rt, tenant_id, new), None
    problem = None
    try:
        state_updates.update_state(rt, tenant_id, new.thread_id, supersteps)
    except TrellisError as error:
        problem = error.detail
    return threads.get(rt, tenant_id, new.thread_id), problem
