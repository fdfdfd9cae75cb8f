"""
Changes of a thread's state by hand, while nothing runs on it.

A change is worked out by the graph on what is stored, in memory, with no lock held and no transaction open: it may
call the user's code. Then it is stored in one transaction under the thread's lock, if nothing has changed since
(the thread's fence tells), and otherwise worked out anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from trellis.db import cancel as run_locks
from trellis.db import checkpoints
from trellis.db import threads as rows
from trellis.db.checkpoints import StagedBackend
from trellis.db.engine import Tx
from trellis.domain import interrupts
from trellis.domain.runs import ThreadStatus
from trellis.errors import BadRequest, Conflict, Invalid, NotFound, ThreadNotFound
from trellis.runtime import Runtime
from trellis.services import lending
from trellis.stream import encoder
from trellis.stream import log as stream_log

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateUpdate

    from trellis.services.lending import Graph

Row = Mapping[str, Any]

#: What LangGraph, and our own readers, rely on in a checkpoint's metadata.
_RESERVED = frozenset(
    {"source", "step", "parents", "run_id", "thread_id", "counters_since_delta_snapshot"}
)
#: How often a change is worked out because something else came in between. Each time, somebody else's was stored.
_TRIES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What one node is to have said."""

    values: Any = None
    command: Mapping[str, Any] | None = None  #: instead of values: update, goto
    as_node: str | None = None  #: None: the node that spoke last, if there is but one


@dataclass(frozen=True, kw_only=True, slots=True)
class _Worked:
    """A change that was worked out, and what it makes of the thread."""

    checkpoint: Mapping[str, Any]
    status: ThreadStatus
    interrupts: str


def update_state(
    rt: Runtime,
    tenant_id: str,
    thread_id: str,
    supersteps: Sequence[Sequence[Update]],
    *,
    where: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """
    Change a thread's state as if nodes had said something, superstep by superstep: all of it, or nothing.

    `where` names the checkpoint to branch from, or the namespace of a subgraph; the default is the thread's head.
    Returns the new checkpoint as clients know it.

    :raises ThreadNotFound: there is no such thread.
    :raises NotFound: there is no such checkpoint.
    :raises Conflict: a run of the thread is not over.
    :raises BadRequest: the thread has no graph yet, or the graph refuses the change.
    :raises GraphLoadError: its graph could not be imported.
    """
    for _ in range(_TRIES):
        with rt.autocommit.connect() as tx:
            thread = _idle(rt, tx, tenant_id, thread_id)
        staged = StagedBackend(rt.engine)
        worked = _work_out(rt, thread, thread_id, supersteps, where or {}, staged)
        waiting = rows.sealed_interrupts(rt.vault, thread_id, worked.interrupts)
        worked = replace(worked, interrupts=waiting)
        with rt.engine.begin() as tx:
            stored = _store(tx, tenant_id, thread_id, staged, worked, fence=thread["fence"])
        if stored:
            prefix, fence = rt.settings.redis_key_prefix, thread["fence"] + 1
            stream_log.append_change(rt.redis, prefix, tenant_id, thread_id, fence=fence)
            return worked.checkpoint
    raise Conflict(f"Thread {thread_id} changes all the time. Try again.")


def patch_metadata(
    rt: Runtime, tenant_id: str, thread_id: str, metadata: Mapping[str, Any]
) -> None:
    """
    Merge metadata into that of a thread's latest checkpoint.

    :raises ThreadNotFound: there is no such thread.
    :raises NotFound: nothing was saved on it yet.
    :raises Conflict: a run of the thread is not over.
    :raises Invalid: a key is the server's to set.
    """
    if reserved := sorted(_RESERVED & metadata.keys()):
        raise Invalid(f"metadata may not set {', '.join(reserved)}: the server does. Leave it out.")
    stored = checkpoints.sealed_metadata(metadata, rt.vault)
    with rt.engine.begin() as tx:
        if not run_locks.lock_thread(tx, tenant_id, thread_id):
            raise ThreadNotFound(thread_id)
        _resting(tx, tenant_id, thread_id)
        if not checkpoints.patch_latest(tx, thread_id, stored):
            raise NotFound(f"Nothing was saved on thread {thread_id} yet")


def _idle(rt: Runtime, tx: Tx, tenant_id: str, thread_id: str) -> Row:
    """A thread on which nothing runs, with its metadata and config."""
    return rows.shown_basis(rt.vault, _resting(tx, tenant_id, thread_id))


def _resting(tx: Tx, tenant_id: str, thread_id: str) -> Row:
    """The same as it is stored: nobody waits for handlers."""
    thread = rows.basis(tx, tenant_id, thread_id)
    if thread is None:
        raise ThreadNotFound(thread_id)
    if thread["in_flight"]:
        raise Conflict(
            f"Thread {thread_id} has in-flight runs: {', '.join(thread['in_flight'])}. "
            "Wait for them, or cancel them, before changing its state."
        )
    return thread


def _work_out(
    rt: Runtime,
    thread: Row,
    thread_id: str,
    supersteps: Sequence[Sequence[Update]],
    where: Mapping[str, Any],
    staged: StagedBackend,
) -> _Worked:
    graph_id = thread["metadata"].get("graph_id")
    if not isinstance(graph_id, str):
        raise BadRequest(
            f"Thread '{thread_id}' has no assigned graph ID. Run an assistant on it first, or set "
            "graph_id in its metadata."
        )
    head: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    config: RunnableConfig = {
        "configurable": {**head["configurable"], **where},
        "metadata": {"graph_id": graph_id},
    }

    async def work(graph: Graph) -> _Worked:
        made = await _applied(graph, config, supersteps)
        snapshot = await graph.aget_state(head, subgraphs=True)
        questions = interrupts.of_tasks(snapshot.tasks)
        return _Worked(
            checkpoint=made["configurable"],
            status=interrupts.rest_status(snapshot.next, questions),
            interrupts=encoder.dumps(questions).decode(),
        )

    return lending.with_graph(
        rt,
        graph_id,
        {**thread["config"], "configurable": {"thread_id": thread_id}},
        work,
        backend=staged,
        access_context="threads.update",
    )


async def _applied(
    graph: Graph, config: RunnableConfig, supersteps: Sequence[Sequence[Update]]
) -> RunnableConfig:
    saver = cast(Any, graph.checkpointer)
    checkpoint_id = config["configurable"].get("checkpoint_id")
    if checkpoint_id is not None and await saver.aget_tuple(config) is None:
        raise NotFound(f"Checkpoint {checkpoint_id[:100]} not found on this thread")
    updates = [[_native(update) for update in superstep] for superstep in supersteps]
    return await graph.abulk_update_state(config, updates)


def _native(update: Update) -> StateUpdate:
    from langgraph.types import StateUpdate

    from trellis.graphs.commands import command_of

    values = update.values if update.command is None else command_of(update.command)
    return StateUpdate(cast(Any, values), update.as_node)


def _store(
    tx: Tx,
    tenant_id: str,
    thread_id: str,
    staged: StagedBackend,
    worked: _Worked,
    *,
    fence: int,
) -> bool:
    """Store what was worked out. False means that the thread is another by now, and nothing was written."""
    if not run_locks.lock_thread(tx, tenant_id, thread_id):
        raise ThreadNotFound(thread_id)
    if _resting(tx, tenant_id, thread_id)["fence"] != fence:
        return False
    checkpoints.insert(tx, staged.rows)
    rows.settle(tx, thread_id, status=str(worked.status), interrupts=worked.interrupts)
    return True
