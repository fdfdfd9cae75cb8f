"""
Commands of protocol v2 that start runs: answers to what a thread waits for, and input that may be one.

What a thread waits for is looked at under the thread's lock, in the transaction that accepts the run: an answer never
reaches a question that was asked after it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from trellis.db import cancel as locks
from trellis.db import runs as run_rows
from trellis.db import threads as rows
from trellis.db.cancel import Stopped
from trellis.db.engine import Tx
from trellis.domain.idempotency import Key
from trellis.domain.new_run import NewRun
from trellis.domain.runs import RunStatus, ThreadStatus
from trellis.errors import BadRequest, CommandError, NotFound, ThreadNotFound, TrellisError
from trellis.protocol import tree as agents
from trellis.runtime import Runtime
from trellis.services import idempotency, runs
from trellis.services.runs import RunRow
from trellis.stream import past

#: What a run is in the tree of agents, by its status.
_AGENT = {
    RunStatus.PENDING: "started",
    RunStatus.RUNNING: "running",
    RunStatus.SUCCESS: "completed",
    RunStatus.INTERRUPTED: "interrupted",
}


def start(
    rt: Runtime, tenant_id: str, thread_id: str, new: NewRun, *, key: Key | None
) -> tuple[RunRow, bool]:
    """
    Accept a run; on a thread that waits for an answer its input is the answer. The flag says that it was before.

    :raises NotFound: there is no such assistant, or the thread is somebody else's.
    :raises Conflict: the strategy is to reject and the thread is busy, or the key stands for another request.
    """
    if not (_may_answer(new) and _waits(rt, tenant_id, thread_id)):
        return _create(rt, tenant_id, thread_id, new, key)

    def answering(tx: Tx) -> NewRun:
        questions = _questions(tx, tenant_id, thread_id)
        return replace(new, input=None, command=_resume(questions, new.input)) if questions else new

    return _accept(rt, tenant_id, thread_id, answering, key)


def respond(
    rt: Runtime,
    tenant_id: str,
    thread_id: str,
    answers: Mapping[str, Any],
    compose: Callable[[str], NewRun],
    *,
    key: Key | None,
) -> tuple[RunRow, bool]:
    """
    Accept the run that answers questions by their ids. `compose` makes it for an assistant.

    :raises CommandError: one of the questions does not wait for an answer.
    """

    def answering(tx: Tx) -> NewRun:
        waiting = _questions(tx, tenant_id, thread_id)
        if unknown := next((each for each in answers if each not in waiting), None):
            raise CommandError(
                "no_such_interrupt", f"Unknown or already-consumed interrupt: {unknown[:100]}"
            )
        return compose(_assistant_id(tx, tenant_id, thread_id))

    return _accept(rt, tenant_id, thread_id, answering, key)


def follow_up(
    rt: Runtime,
    tenant_id: str,
    thread_id: str,
    compose: Callable[[str], NewRun],
    *,
    checkpoint_id: str | None = None,
    key: Key | None,
) -> tuple[RunRow, bool]:
    """
    Accept another run of the assistant that the thread had last.

    :raises ThreadNotFound: there is no such thread.
    :raises CommandError: there is no such checkpoint.
    """

    def following(tx: Tx) -> NewRun:
        if rows.get(tx, tenant_id, thread_id=thread_id) is None:
            raise ThreadNotFound(thread_id)
        if checkpoint_id and not rows.has_checkpoint(tx, thread_id, checkpoint_id):
            raise CommandError("no_such_checkpoint", f"Unknown checkpoint: {checkpoint_id[:100]}")
        return compose(_assistant_id(tx, tenant_id, thread_id))

    return _accept(rt, tenant_id, thread_id, following, key)


def tree(rt: Runtime, tenant_id: str, thread_id: str, run_id: str | None) -> dict[str, Any]:
    """
    What a run of a thread is doing, and its subgraphs; of the latest run if none is named.

    :raises CommandError: there is no such run.
    """
    with rt.autocommit.connect() as tx:
        thread = rows.get(tx, tenant_id, thread_id=thread_id)
        latest = None if thread is None else _latest(tx, tenant_id, thread_id)
        run = latest
        if latest is not None and run_id not in (None, latest["run_id"]):
            run = run_rows.get(tx, tenant_id, thread_id, run_id)
    if run is None or thread is None:
        told = "No active run is bound to this thread." if run_id is None else "Unknown run."
        raise CommandError("no_such_run", told)
    status = _AGENT.get(RunStatus(run["status"]), "failed")
    if status == "completed" and thread["status"] == ThreadStatus.INTERRUPTED and run is latest:
        status = "interrupted"
    log = past.items(rt.redis, rt.settings.redis_key_prefix, run["run_id"])
    return agents.tree(run["graph_id"], status, log)


def _latest(tx: Tx, tenant_id: str, thread_id: str) -> RunRow | None:
    found = run_rows.list_(tx, tenant_id, thread_id, limit=1, offset=0, status=None)
    return found[0] if found else None


def _create(
    rt: Runtime, tenant_id: str, thread_id: str, new: NewRun, key: Key | None
) -> tuple[RunRow, bool]:
    if key is None:
        return runs.create(rt, tenant_id, thread_id, new), False
    [run], is_replay = runs.create_once(rt, tenant_id, thread_id, [new], key=key)
    return run, is_replay


def _accept(
    rt: Runtime, tenant_id: str, thread_id: str, decide: Callable[[Tx], NewRun], key: Key | None
) -> tuple[RunRow, bool]:
    """Accept the run that `decide` says, in one transaction with what it looked at, the thread locked."""
    accepted: list[tuple[NewRun, Stopped]] = []

    def prepare() -> Callable[[Tx], Sequence[RunRow]]:
        return partial(make, _priority(rt, tenant_id, thread_id, decide))

    def make(priority: int | None, tx: Tx) -> Sequence[RunRow]:
        locks.lock_thread(tx, tenant_id, thread_id)
        new = replace(decide(tx), priority=priority)
        ready = runs.prepare(rt, tx, tenant_id, thread_id, new)
        run, stopped = runs.write(tx, ready)
        accepted.append((new, stopped))
        return [runs.stored(ready, run)]

    [run], is_replay = idempotency.once(
        rt, tenant_id, key, prepare=prepare, opened=lambda row: run_rows.opened(rt.vault, row)
    )
    for new, stopped in accepted:
        runs.tell(rt, run, new, stopped)
    return run, is_replay


def _priority(
    rt: Runtime, tenant_id: str, thread_id: str, decide: Callable[[Tx], NewRun]
) -> int | None:
    """What the operator's hook says of a thread that has no priority yet: outside of the transaction, it takes its time."""
    if rt.priority is None:
        return None
    try:
        with rt.autocommit.connect() as tx:
            new = decide(tx)
    except TrellisError:
        # What is refused is refused again, where it counts.
        return None
    [asked] = runs.prioritised(rt, tenant_id, thread_id, [new])
    return asked.priority


def _may_answer(new: NewRun) -> bool:
    """Whether input can be an answer: a run that goes back to a checkpoint leaves the question behind."""
    return new.input is not None and new.checkpoint is None


def _waits(rt: Runtime, tenant_id: str, thread_id: str) -> bool:
    with rt.autocommit.connect() as tx:
        return bool(_questions(tx, tenant_id, thread_id))


def _questions(tx: Tx, tenant_id: str, thread_id: str) -> list[str]:
    """The ids of the questions that a thread waits with; none while a run may be answering them."""
    thread = rows.get(tx, tenant_id, thread_id=thread_id)
    if thread is None or thread["status"] != ThreadStatus.INTERRUPTED:
        return []
    return [question["id"] for asked in thread["interrupts"].values() for question in asked]


def _resume(questions: Sequence[str], answer: Any) -> dict[str, Any]:
    """An answer to all that waits: by its id if it is but one question."""
    return {"resume": {questions[0]: answer} if len(questions) == 1 else answer}


def _assistant_id(tx: Tx, tenant_id: str, thread_id: str) -> str:
    run = _latest(tx, tenant_id, thread_id)
    if run is not None:
        assistant_id: str = run["assistant_id"]
        return assistant_id
    thread = rows.get(tx, tenant_id, thread_id=thread_id)
    if thread is None:
        raise NotFound("Thread or assistant not found.")
    graph_id = thread["metadata"].get("graph_id")
    if not isinstance(graph_id, str):
        raise BadRequest("Nothing has run on this thread yet. Send run.start first.")
    return graph_id
