"""A thread's state and history, read with its graph: the one place where the web process loads user code."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from trellis.db import threads as thread_rows
from trellis.db.checkpoints import DirectBackend
from trellis.errors import Unavailable
from trellis.runtime import Runtime
from trellis.services import threads

T = TypeVar("T")

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel import Pregel
    from langgraph.types import StateSnapshot

    from trellis.graphs.registry import Registry

    Graph: TypeAlias = Pregel[Any, Any, Any, Any]
    Use: TypeAlias = Callable[[Graph], Awaitable[T]]

#: A state of many megabytes takes its time, but not for ever.
_PATIENCE_SECONDS = 60


def read(
    rt: Runtime, tenant_id: str, thread_id: str, *, where: Mapping[str, Any], subgraphs: bool
) -> StateSnapshot | None:
    """
    The state of a thread, or of a subgraph in it; the latest if `where` names no checkpoint.

    None means that nothing was ever saved on the thread.

    :raises ThreadNotFound: there is no such thread.
    :raises GraphLoadError: its graph could not be imported.
    """
    config = _config(thread_id, where)

    async def get(graph: Graph) -> StateSnapshot:
        return await graph.aget_state(config, subgraphs=subgraphs)

    return _with_graph(rt, tenant_id, thread_id, get)


def history(
    rt: Runtime,
    tenant_id: str,
    thread_id: str,
    *,
    where: Mapping[str, Any],
    before: str | None,
    metadata: Mapping[str, Any],
    limit: int,
) -> list[StateSnapshot]:
    """
    Past states of a thread, or of a subgraph in it, newest first, those that match.

    :raises ThreadNotFound: there is no such thread.
    :raises GraphLoadError: its graph could not be imported.
    """
    config = _config(thread_id, where)
    end = None if before is None else _config(thread_id, {"checkpoint_id": before})

    async def collect(graph: Graph) -> list[StateSnapshot]:
        found = graph.aget_state_history(
            config, filter=dict(metadata) or None, before=end, limit=limit
        )
        return [snapshot async for snapshot in found]

    return _with_graph(rt, tenant_id, thread_id, collect) or []


def _config(thread_id: str, where: Mapping[str, Any]) -> RunnableConfig:
    return {"configurable": {**where, "thread_id": thread_id}}


def _with_graph(
    rt: Runtime,
    tenant_id: str,
    thread_id: str,
    use: Use[T],
) -> T | None:
    """Call `use` on the process's loop with the thread's graph. None: nothing was saved on the thread."""
    with rt.autocommit.connect() as tx:
        thread = threads.visible(tx, tenant_id, thread_id)
        graph_id = thread["metadata"].get("graph_id")
        if not isinstance(graph_id, str) or not thread_rows.has_checkpoints(tx, thread_id):
            return None
    if rt.loop is None:
        raise Unavailable("The server is starting. Try again.")
    lending = _lend(rt, graph_id, thread, use)
    work = asyncio.run_coroutine_threadsafe(lending, rt.loop)
    try:
        return work.result(_PATIENCE_SECONDS)
    except TimeoutError:
        work.cancel()
        raise Unavailable("Reading the state took too long. Try again.") from None


async def _lend(rt: Runtime, graph_id: str, thread: Mapping[str, Any], use: Use[T]) -> T:
    registry = await asyncio.to_thread(_import_langgraph, rt)
    config = {**thread["config"], "configurable": {"thread_id": thread["thread_id"]}}
    async with registry.open(graph_id, config=config, access_context="threads.read") as graph:
        return await _use(rt, graph, use)


async def _use(rt: Runtime, graph: Graph, use: Use[T]) -> T:
    from trellis.db.checkpoints.saver import Saver
    from trellis.db.serde import serializer
    from trellis.db.state_types import state_types

    backend = DirectBackend(rt.engine)
    # Not Pregel.copy(): it drops the mappers of pydantic states.
    readable = copy.copy(graph)
    readable.checkpointer = Saver(backend, serde=serializer(state_types(graph)))
    try:
        return await use(readable)
    finally:
        # In a thread: a query that was given up may still be running.
        await asyncio.to_thread(backend.close)


def _import_langgraph(rt: Runtime) -> Registry:
    """In a thread, because the first time it takes a second, in which the loop must go on."""
    import_module("trellis.db.checkpoints.saver")
    import_module("trellis.db.serde")
    return rt.registry
