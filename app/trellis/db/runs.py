"""Rows of runs: created by services, claimed, held, finished and rescued by workers.

Lock order everywhere: thread, then run (run-protocol §3). Time is the database's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from trellis.db import checkpoints, dead_letters, queries
from trellis.db.engine import Tx
from trellis.db.queries import Row
from trellis.db.vault import Vault, vault_of
from trellis.domain.multitask import Action, ended_by
from trellis.domain.priorities import STEP_MINUTES
from trellis.domain.runs import Claim, Outcome, RunState, RunStatus, Ward
from trellis.domain.ttl import Ttl
from trellis.errors import Fenced

_rows = partial(queries.rows, "runs")
_row = partial(queries.row, "runs")
_run = partial(queries.change, "runs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """A run that this process may execute now."""

    claim: Claim
    tenant_id: str
    assistant_id: str
    graph_id: str
    kwargs: Mapping[str, Any]  #: what handlers have encrypted in it is for the worker to open
    has_progress: (
        bool  #: an earlier attempt left durable writes: continue, do not apply the input again
    )
    seconds_left: float | None  #: until the run's deadline
    trial_seconds: float | None = None  #: how long it is to be alone; None: of no quarantine


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """A run that waits to be announced."""

    run_id: str
    graph_id: str


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


# Creating and reading


def subject(tx: Tx, tenant_id: str, thread_id: str, *, assistant_id: str) -> Row | None:
    """A thread, and the assistant that is to run on it (or nulls). None means there is no such thread."""
    params = {"tenant_id": tenant_id, "thread_id": thread_id, "assistant_id": assistant_id}
    row = _row(tx, "subject", **params)
    return row and _assistant(tx, row, thread_metadata="thread metadata")


def get_assistant(tx: Tx, tenant_id: str, assistant_id: str) -> Row | None:
    row = _row(tx, "assistant", tenant_id=tenant_id, assistant_id=assistant_id)
    return row and _assistant(tx, row)


def _assistant(tx: Tx, row: Row, **columns: str) -> Row:
    vault = vault_of(tx)
    if not vault.is_on:
        return row
    config, context = "assistant config", "assistant context"
    return vault.show_columns(
        row, config=config, context=context, metadata="assistant metadata", **columns
    )


class Sealed(dict[str, Any]):
    """A run as it is stored, what of it is encrypted included."""


def sealed(vault: Vault, run: Mapping[str, Any]) -> Sealed:
    """
    A run as it is stored. Handlers take their time: before the transaction that stores it.

    :raises EncryptionFailed: one failed.
    """
    encoded = {
        "metadata": _json(vault.hide(run["metadata"], model="run")),
        "thread_metadata": _json(vault.hide(run["thread_metadata"], model="thread")),
        "thread_config": _json(vault.hide(run["thread_config"], model="thread", field="config")),
    }
    encoded["kwargs"] = vault.seal_json(_json(run["kwargs"]), "run", run["run_id"], "kwargs")
    known = {"webhook": run["kwargs"].get("webhook"), "priority": None, "step": STEP_MINUTES}
    return Sealed({**known, **run, **encoded})


def _stored(tx: Tx, run: Mapping[str, Any]) -> Sealed:
    return run if isinstance(run, Sealed) else sealed(vault_of(tx), run)


def enqueue(tx: Tx, run: Mapping[str, Any]) -> Row | None:
    """Accept a run on a thread. None means that the thread is gone."""
    return _row(tx, "enqueue", **_stored(tx, run))


def enqueue_with_thread(
    tx: Tx, run: Mapping[str, Any], *, temporary: bool, ttl: Ttl | None = None
) -> Row | None:
    """Accept a run on a thread made for it. None means that there is a thread with this id already."""
    return _row(
        tx,
        "enqueue_with_thread",
        temporary=temporary,
        ttl_strategy=ttl.strategy if ttl else None,
        ttl_minutes=ttl.minutes if ttl else None,
        **_stored(tx, run),
    )


def opened(vault: Vault, run: Mapping[str, Any]) -> dict[str, Any]:
    """A run, or what a webhook tells of it, with what of it is encrypted."""
    run_id = run["run_id"]
    return {
        **vault.show_columns(run, metadata="run metadata"),
        "kwargs": vault.open_json(run["kwargs"], "run", run_id, "kwargs"),
        "error": vault.open_json(run["error"], "run", run_id, "error", may_be_plain=True),
    }


def get(tx: Tx, tenant_id: str, thread_id: str, run_id: str) -> Row | None:
    row = _row(tx, "get", tenant_id=tenant_id, thread_id=thread_id, run_id=run_id)
    return row and opened(vault_of(tx), row)


def find(tx: Tx, tenant_id: str, run_id: str) -> Row | None:
    row = _row(tx, "find", tenant_id=tenant_id, run_id=run_id)
    return row and opened(vault_of(tx), row)


def list_(
    tx: Tx, tenant_id: str, thread_id: str, *, limit: int, offset: int, status: str | None
) -> Sequence[Row]:
    """The runs of a thread, newest first."""
    vault = vault_of(tx)
    found = _rows(
        tx,
        "list",
        tenant_id=tenant_id,
        thread_id=thread_id,
        limit=limit,
        offset=offset,
        status=status,
    )
    return [opened(vault, row) for row in found]


def state(tx: Tx, run_id: str) -> Row | None:
    """Status, error, fence and thread of a run."""
    row = _row(tx, "state", run_id=run_id)
    if row is None:
        return None
    error = vault_of(tx).open_json(row["error"], "run", run_id, "error", may_be_plain=True)
    return {**row, "error": error}


def active(tx: Tx, run_ids: Sequence[str]) -> dict[str, RunState]:
    """Those that are not over."""
    found = _rows(tx, "active", run_ids=list(run_ids))
    return {
        row["run_id"]: RunState(status=RunStatus(row["status"]), fence=row["fence"])
        for row in found
    }


# Executing: every function takes many runs, because the group-commit writer has many


def claim(
    tx: Tx, hints: Mapping[str, str], *, owner: str, lease_seconds: float, ward: Ward = Ward.OPEN
) -> tuple[list[Claimed], bool]:
    """
    Take the heads of the threads of the hinted runs, as far as they belong to the ward.

    `hints` is {run_id: claim_id}. Two statements, never one: see `claim` in runs.sql. The flag says
    that a thread was locked by somebody else, so the hints may be worth another try.
    """
    threads = _rows(tx, "lock_claimable", run_ids=list(hints))
    locked = len(threads) < len(hints) and _is_one_locked(tx, hints, threads)
    if not threads:
        return [], locked
    rows = _rows(
        tx,
        "claim",
        owner=owner,
        lease=lease_seconds,
        ward=ward,
        thread_ids=[row["thread_id"] for row in threads],
        fences=[row["fence"] for row in threads],
        claim_ids=list(hints.values())[: len(threads)],
    )
    return [_claimed(tx, row) for row in rows], locked


def _is_one_locked(tx: Tx, hints: Mapping[str, str], ours: Sequence[Row]) -> bool:
    """Whether a hinted run waits on a thread that is not ours. Not so when the others are stale: taken, or over."""
    locked = [row["thread_id"] for row in ours]
    return _row(tx, "waiting_elsewhere", run_ids=list(hints), thread_ids=locked) is not None


def foremost(tx: Tx, hinted: Sequence[str], *, graph_ids: Sequence[str]) -> list[str]:
    """As many runs as are hinted, or fewer: those of these graphs that are first in line. Locks their threads."""
    rows = _rows(tx, "foremost", hinted=list(hinted), graph_ids=list(graph_ids), limit=len(hinted))
    return [row["run_id"] for row in rows]


def claimed_before(
    tx: Tx, hints: Mapping[str, str], *, among: Iterable[str] = ()
) -> dict[str, Claimed]:
    """{claim_id: run} of the claims that a lost answer hides (race 8), of the hinted runs and `among` others."""
    rows = _rows(tx, "claimed_before", run_ids=[*hints, *among], claim_ids=list(hints.values()))
    return {row["claim_id"]: _claimed(tx, row) for row in rows}


def _claimed(tx: Tx, row: Row) -> Claimed:
    claim = Claim(
        run_id=row["run_id"], thread_id=row["thread_id"], fence=row["fence"], attempt=row["attempt"]
    )
    return Claimed(
        claim=claim,
        tenant_id=row["tenant_id"],
        assistant_id=row["assistant_id"],
        graph_id=row["graph_id"],
        kwargs=vault_of(tx).open_json_by_key(row["kwargs"], "run", claim.run_id, "kwargs"),
        has_progress=row["has_progress"],
        seconds_left=row["seconds_left"],
        trial_seconds=row["trial_seconds"],
    )


def hold(tx: Tx, claims: Sequence[Claim]) -> set[str]:
    """Lock the runs that these claims still own, until commit. Those missing are fenced."""
    rows = _rows(tx, "hold", run_ids=[c.run_id for c in claims], fences=[c.fence for c in claims])
    return {row["run_id"] for row in rows}


def fence(tx: Tx, claim: Claim) -> None:
    """
    Let a transaction commit only while a claim owns its run.

    :raises Fenced: it does not any more.
    """
    if not hold(tx, [claim]):
        raise Fenced(f"run {claim.run_id} belongs to another attempt")


def mark_progress(tx: Tx, run_ids: Sequence[str]) -> None:
    """Remember that a later attempt must continue instead of starting from the input."""
    _run(tx, "mark_progress", run_ids=list(run_ids))


def lock_threads(tx: Tx, thread_ids: Sequence[str]) -> None:
    """Lock threads in one order, so that two rounds never deadlock."""
    _rows(tx, "lock_threads", thread_ids=list(thread_ids))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run has ended. `is_new`: by this very call, so that its thread has yet to be settled."""

    outcome: Outcome
    is_new: bool


def finish(tx: Tx, ends: Sequence[tuple[Claim, Outcome]]) -> dict[str, Ended]:
    """
    Record how attempts ended. Returns how the runs whose end counts have ended; the others are fenced.

    A cancel that was asked for before decides, not the worker: a run that is rolled back is gone then, with all
    it wrote. An end that an earlier, unanswered commit has written already counts (race 29).
    """
    proposed = {claim.run_id: outcome for claim, outcome in ends}
    vault = vault_of(tx)
    rows = _rows(
        tx,
        "finish",
        run_ids=[claim.run_id for claim, _ in ends],
        fences=[claim.fence for claim, _ in ends],
        statuses=[str(outcome.status) for _, outcome in ends],
        errors=[
            vault.seal_json_by_key(_json(outcome.error), "run", claim.run_id, "error")
            for claim, outcome in ends
        ],
    )
    won = {row["run_id"]: Ended(_outcome(row, proposed[row["run_id"]]), True) for row in rows}
    for claim, _ in ends:
        if claim.run_id in won and won[claim.run_id].outcome.thread_status is None:
            roll_back(tx, claim.run_id, claim.thread_id)
    failed = [
        (claim.run_id, dead_letters.RAISED, outcome.traceback)
        for claim, outcome in ends
        if claim.run_id in won and won[claim.run_id].outcome.status == RunStatus.ERROR
    ]
    if failed:
        dead_letters.bury(tx, failed)
    if lost := [(claim, outcome) for claim, outcome in ends if claim.run_id not in won]:
        won |= _finished_before(tx, lost)
    return won


def _finished_before(tx: Tx, ends: Sequence[tuple[Claim, Outcome]]) -> dict[str, Ended]:
    rows = _rows(tx, "finished_before", run_ids=[claim.run_id for claim, _ in ends])
    there = {(row["run_id"], row["fence"]): row for row in rows}
    found = {}
    for claim, outcome in ends:
        if row := there.get((claim.run_id, claim.fence)):
            outcome = _outcome(row, outcome)
            if row["status"] == outcome.status:
                found[claim.run_id] = Ended(outcome, False)
    return found


def _outcome(row: Row, proposed: Outcome) -> Outcome:
    if row["cancel_action"] is None:
        return proposed
    return ended_by(Action(row["cancel_action"]), row["cancel_reason"])


def roll_back(tx: Tx, run_id: str, thread_id: str) -> None:
    """Delete a run with all it wrote. Its row is locked by then, so that no write of it is still to come."""
    checkpoints.roll_back(tx, run_id, thread_id)
    delete(tx, run_id)


def delete(tx: Tx, run_id: str) -> None:
    """Delete a run's row; what it wrote stays."""
    _run(tx, "delete", run_id=run_id)


def settle_threads(tx: Tx, ends: Sequence[tuple[Claim, Outcome]]) -> dict[str, Pending]:
    """Set the threads' status after a finish. Returns {thread_id: the run it may start next}."""
    vault = vault_of(tx)
    rows = _rows(
        tx,
        "settle_threads",
        thread_ids=[claim.thread_id for claim, _ in ends],
        statuses=[outcome.thread_status for _, outcome in ends],
        errors=[
            vault.seal_json_by_key(_json(outcome.error), "thread", claim.thread_id, "error")
            for claim, outcome in ends
        ],
        interrupts=[
            None
            if outcome.thread_status is None or outcome.keeps_thread
            else vault.seal_json_by_key(
                _json(outcome.interrupts or {}), "thread", claim.thread_id, "interrupts"
            )
            for claim, outcome in ends
        ],
        kept=[outcome.keeps_thread for _, outcome in ends],
    )
    return {
        row["thread_id"]: Pending(run_id=row["run_id"], graph_id=row["graph_id"])
        for row in rows
        if row["due"]
    }


def release(tx: Tx, claims: Sequence[Claim]) -> list[Pending]:
    """Hand runs back to whoever comes next, without using up their crash budget."""
    rows = _rows(
        tx, "release", run_ids=[c.run_id for c in claims], fences=[c.fence for c in claims]
    )
    return [Pending(run_id=row["run_id"], graph_id=row["graph_id"]) for row in rows]


def renew(tx: Tx, claims: Sequence[Claim], *, lease_seconds: float) -> dict[str, str | None]:
    """Prolong leases. Returns {run_id: cancel action} of those still held; the others are lost."""
    rows = _rows(
        tx,
        "renew",
        lease=lease_seconds,
        run_ids=[c.run_id for c in claims],
        fences=[c.fence for c in claims],
    )
    return {row["run_id"]: row["cancel_action"] for row in rows}


# Sweeping: any process may, no leader


def expired(tx: Tx, *, patience_seconds: float, limit: int = 100) -> Sequence[Row]:
    """
    Runs whose worker is lost: candidates for `cancel.end_overdue` and `rescue`, one transaction each.

    `patience_seconds` is how long a worker may take to end a run that it was asked to end.
    """
    return _rows(tx, "expired", limit=limit, patience=patience_seconds)


def rescue(tx: Tx, run_id: str, thread_id: str, *, backoff_seconds: float) -> str | None:
    """Return a lost run to pending, or give it up. None means somebody else is at it, or it lives."""
    if not lock_lost(tx, run_id, thread_id):
        return None
    error = _json({"error": "WorkerLost", "message": "The workers of this run died too often."})
    row = _row(tx, "rescue", run_id=run_id, error=error, backoff=backoff_seconds)
    if row and row["status"] == RunStatus.ERROR:
        dead_letters.bury(tx, [(run_id, dead_letters.LOST, None)])
        _settle_buried(tx, run_id, thread_id)
        _run(tx, "acquit", owner=row["lost_before"])
    return row["status"] if row else None


def suspects(tx: Tx, ward: Ward, *, limit: int = 1, overdue_seconds: float = 0) -> list[Pending]:
    """The runs that a process of this ward is to execute next, and has not for so long."""
    rows = _rows(tx, "suspects", ward=ward, limit=limit, overdue=overdue_seconds)
    return [Pending(run_id=row["run_id"], graph_id=row["graph_id"]) for row in rows]


def lock_lost(tx: Tx, run_id: str, thread_id: str) -> bool:
    """Lock a thread and its run without waiting. False means somebody else is at it."""
    if not _row(tx, "lock_expired", thread_id=thread_id):
        return False
    return bool(_row(tx, "lock_expired_run", run_id=run_id))


def _settle_buried(tx: Tx, run_id: str, thread_id: str) -> None:
    _run(
        tx,
        "settle_threads",
        thread_ids=[thread_id],
        statuses=["error"],
        errors=[_json({"error": "WorkerLost", "message": f"run {run_id} was given up"})],
        interrupts=["{}"],
        kept=[False],
    )


def due(tx: Tx, *, limit: int, hint_ttl_seconds: float) -> list[Pending]:
    """Runs that could start now and that nobody has been told about lately; they count as told now."""
    rows = _rows(tx, "due", limit=limit, hint_ttl=hint_ttl_seconds)
    return [Pending(run_id=row["run_id"], graph_id=row["graph_id"]) for row in rows]


def delete_temporary_threads(tx: Tx, *, limit: int = 500) -> int:
    """Delete threads of stateless runs past their time, with everything that hangs on them. Returns how many."""
    ids = [row["thread_id"] for row in _rows(tx, "expired_temporary_threads", limit=limit)]
    if ids:
        delete_threads(tx, ids)
    return len(ids)


def expire_threads(tx: Tx, *, limit: int) -> int:
    """Do to threads past their time to live what their strategies say. Returns how many they were."""
    found = _rows(tx, "expired_threads", limit=limit)
    kept = [row["thread_id"] for row in found if row["ttl_strategy"] == "keep_latest"]
    if kept:
        checkpoints.prune(tx, kept, strategy="keep_latest")
        _run(tx, "disarm_threads", thread_ids=kept)
    if gone := [row["thread_id"] for row in found if row["ttl_strategy"] == "delete"]:
        delete_threads(tx, gone)
    return len(found)


def delete_threads(tx: Tx, thread_ids: Sequence[str]) -> None:
    """Delete locked threads with their runs and checkpoints."""
    _run(tx, "delete_threads", thread_ids=list(thread_ids))
    checkpoints.leave_threads(tx, thread_ids)
