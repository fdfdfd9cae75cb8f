"""Asks the operator's hook for the priority of a thread, at the thread's first run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trellis.domain.access import caller
from trellis.domain.new_run import NewRun
from trellis.domain.priorities import priority_of
from trellis.domain.users import User
from trellis.runtime import Runtime
from trellis.telemetry import PRIORITY_FAILED, log

if TYPE_CHECKING:
    from langgraph_sdk.priority.types import PriorityContext

#: How long the hook may take, in seconds: whoever creates a run waits for it.
_PATIENCE_SECONDS = 2.0


def context_of(
    new: NewRun,
    assistant: Mapping[str, Any],
    thread_id: str | None,
    *,
    thread_metadata: Mapping[str, Any],
    run_metadata: Mapping[str, Any],
) -> PriorityContext:
    """What the hook is told."""
    from langgraph_sdk.priority.types import PriorityContext

    user = User(new.user or {"identity": "", "is_authenticated": False})
    return PriorityContext(
        user=user,
        permissions=user.permissions,
        thread_id=thread_id,
        thread_metadata=dict(thread_metadata),
        assistant_id=assistant["assistant_id"],
        graph_id=assistant["graph_id"],
        assistant_metadata=dict(assistant["metadata"]),
        run_metadata=dict(run_metadata),
        cron_id=new.cron_id,
    )


def ask(
    rt: Runtime, tenant_id: str, contexts: Sequence[PriorityContext | None]
) -> list[int | None]:
    """The priorities. None: nothing was asked, or the hook failed, so that the thread's next run asks again."""
    return rt.on_loop(_ask_all(rt, tenant_id, contexts))


async def _ask_all(
    rt: Runtime, tenant_id: str, contexts: Sequence[PriorityContext | None]
) -> list[int | None]:
    # Clients that the hook makes work on the data of the same tenant.
    caller.set(replace(caller.get(), tenant_id=tenant_id))
    return list(await asyncio.gather(*(_ask(rt, context) for context in contexts)))


async def _ask(rt: Runtime, context: PriorityContext | None) -> int | None:
    if context is None or rt.priority is None:
        return None
    try:
        # Not in a task of its own, in which sys.exit() would end the loop.
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return priority_of(await rt.priority(context))
    # The edge to the operator's code: a run waits its turn without it rather than being refused.
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        log().warning(PRIORITY_FAILED, error=f"{type(error).__name__}: {error}")
        return None
