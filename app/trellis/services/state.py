"""A thread's state and history, read with its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from trellis.db import threads as thread_rows
from trellis.db.checkpoints import DirectBackend
from trellis.runtime import Runtime
from trellis.services import lending, threads

T = TypeVar("T")

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

    from trellis.services.lending import Graph, Use


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


def _with_graph(rt: Runtime, tenant_id: str, thread_id: str, use: Use[T]) -> T | None:
    """Call `use` with the thread's graph. None: nothing was saved on the thread."""
    with rt.autocommit.connect() as tx:
        thread = threads.visible(tx, tenant_id, thread_id)
        graph_id = thread["metadata"].get("graph_id")
        if not isinstance(graph_id, str) or not thread_rows.has_checkpoints(tx, thread_id):
            return None
    return lending.with_graph(
        rt,
        graph_id,
        {**thread["config"], "configurable": {"thread_id": thread_id}},
        use,
        backend=DirectBackend(rt.engine),
        access_context="threads.read",
    )
