"""Crons: create, read, change and find them, run one now, and fire those that are due."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any, TypeVar

from trellis.db import assistants as assistant_rows
from trellis.db import crons as rows
from trellis.db import runs as run_rows
from trellis.db.cancel import Stopped
from trellis.db.crons import Query
from trellis.db.engine import Tx, is_conflict, is_unavailable
from trellis.domain.crons import NewCron, Timing, changed_tick, first_tick, next_tick
from trellis.domain.encryption import context as encryption_context
from trellis.domain.idempotency import Key
from trellis.domain.ids import default_assistant_id, is_uuid, new_id
from trellis.domain.new_run import NewRun
from trellis.domain.pages import Page
from trellis.errors import Conflict, KeyMissing, NotFound
from trellis.runtime import Runtime
from trellis.services import idempotency, runs, webhooks
from trellis.services.runs import Ready, RunRow
from trellis.telemetry import CRON_FAILED, CRON_FIRED, log

Row = Mapping[str, Any]
T = TypeVar("T")

#: How often a change starts anew because another one came first.
_TRIES = 100
#: A run, what it was made of, and what it stopped: to be told after the commit.
Accepted = tuple[RunRow, NewRun, Stopped]

_NEW_RUN = frozenset(each.name for each in fields(NewRun))


def create(
    rt: Runtime, tenant_id: str, new: NewCron, *, key: Key | None = None
) -> tuple[Row, bool]:
    """
    Make a cron, unless an earlier request with this key has: then its row as it was made, and True.

    :raises Invalid: its schedule, its time zone or its webhook make no sense.
    :raises NotFound: there is no such thread or assistant.
    :raises Conflict: the key stands for another request.
    """
    [row], is_replay = idempotency.once(
        rt,
        tenant_id,
        key,
        prepare=lambda: _making(rt, tenant_id, new),
        opened=lambda row: rows.opened(rt.vault, row),
    )
    return row, is_replay


def _making(rt: Runtime, tenant_id: str, new: NewCron) -> Callable[[Tx], list[Row]]:
    """Encrypt what a cron is, and say how it is written."""
    webhooks.check(rt.manifest.webhooks, [new.run.webhook])
    given = new.run.assistant_id
    assistant_id = default_assistant_id(given, tenant_id) if given in rt.manifest.graphs else given
    stored = rows.sealed(rt.vault, _values(new, cron_id=new_id(), assistant_id=assistant_id))

    def make(tx: Tx) -> list[Row]:
        now = rows.now(tx)
        due = first_tick(new.timing, now)
        _hold(rt, tx, tenant_id, given, assistant_id, new.thread_id)
        made = {**stored, "thread_id": new.thread_id, "next_run_at": due, "now": now}
        return [rows.insert(tx, tenant_id, made)]

    return make


def _hold(
    rt: Runtime, tx: Tx, tenant_id: str, given: str, assistant_id: str, thread_id: str | None
) -> None:
    """Have the assistant and the thread be there until the commit."""
    if given in rt.manifest.graphs:
        assistant_rows.ensure_default(tx, tenant_id, rt.manifest.graphs[given])
    if not is_uuid(assistant_id) or not rows.hold_assistant(tx, tenant_id, assistant_id):
        raise NotFound(f"Assistant '{given[:200]}' not found")
    if thread_id is not None and not rows.hold_thread(tx, tenant_id, thread_id):
        raise NotFound(
            f"Thread with ID '{thread_id}' not found. Please verify the ID is correct and the "
            "thread hasn't been deleted or expired."
        )


def _values(new: NewCron, *, cron_id: str, assistant_id: str) -> Mapping[str, Any]:
    """The columns that a client decides about."""
    return {
        "cron_id": cron_id,
        "assistant_id": assistant_id,
        **asdict(new.timing),
        "on_run_completed": new.on_run_completed,
        "metadata": new.metadata,
        "payload": _shown(new.payload, assistant_id=assistant_id, cron_id=cron_id),
        "run": {
            **asdict(replace(new.run, assistant_id=assistant_id)),
            "encryption_context": encryption_context.get(),
        },
    }


def _shown(payload: Mapping[str, Any], *, assistant_id: str, cron_id: str) -> Mapping[str, Any]:
    """The body as it was sent, with what the server knows by now."""
    config = payload.get("config") or {}
    configurable = {**(config.get("configurable") or {}), "cron_id": cron_id}
    return {
        **payload,
        "assistant_id": assistant_id,
        "config": {**config, "configurable": configurable},
    }


def get(rt: Runtime, tenant_id: str, cron_id: str) -> Row:
    """A cron. :raises NotFound:"""
    with rt.autocommit.connect() as tx:
        row = rows.get(tx, tenant_id, cron_id)
    if row is None:
        raise NotFound("Not Found")
    return row


def patch(
    rt: Runtime,
    tenant_id: str,
    cron_id: str,
    change: Callable[[Row], NewCron],
    *,
    webhook: str | None,
) -> Row:
    """
    Make a cron what `change` says when it is given what the cron is now. `webhook` is one that is new.

    :raises NotFound: there is no such cron.
    :raises Invalid: what it would be makes no sense.
    """
    webhooks.check(rt.manifest.webhooks, [webhook])
    for _ in range(_TRIES):
        with rt.autocommit.connect() as tx:
            before = rows.get(tx, tenant_id, cron_id)
        if before is None:
            raise NotFound(f"Cron '{cron_id}' not found")
        if changed := _changed(rt, before, change(before)):
            return rows.opened(rt.vault, changed)
    raise Conflict(f"Cron '{cron_id}' changes all the time. Try again.")


def _changed(rt: Runtime, before: Row, wanted: NewCron) -> Row | None:
    """Change a cron that is still what it was, while nobody can fire it. None: it is not."""
    # Whoever changes it: its runs stay those of who made it.
    made = {"user": before["run"]["user"], "headers": before["run"].get("headers") or {}}
    new = replace(wanted, run=replace(wanted.run, **made))
    with _encryption_of(before):
        values = _values(new, cron_id=before["cron_id"], assistant_id=before["assistant_id"])
    stored = rows.sealed(rt.vault, values)
    with rt.engine.begin() as tx:
        locked = rows.lock(tx, before["tenant_id"], before["cron_id"])
        if locked is None or locked["updated_at"] != before["updated_at"]:
            return None
        due = changed_tick(
            new.timing, locked["now"], before=_timing(locked), was=locked["next_run_at"]
        )
        return rows.update(tx, before["tenant_id"], {**stored, "next_run_at": due})


def _timing(row: Row) -> Timing:
    return Timing(**{each.name: row[each.name] for each in fields(Timing)})


def delete(rt: Runtime, tenant_id: str, cron_id: str) -> None:
    """Delete a cron; its runs stay. :raises NotFound:"""
    with rt.engine.begin() as tx:
        if not rows.delete(tx, tenant_id, cron_id):
            raise NotFound("Not Found")


def search(rt: Runtime, tenant_id: str, *, query: Query, page: Page) -> Sequence[Row]:
    """A page of the crons that match."""
    with rt.autocommit.connect() as tx:
        return rows.search(tx, tenant_id, query=query, page=page)


def count(rt: Runtime, tenant_id: str, *, query: Query) -> int:
    """How many crons match."""
    with rt.autocommit.connect() as tx:
        return rows.count(tx, tenant_id, query=query)


# Running


def run_now(
    rt: Runtime, tenant_id: str, cron_id: str, *, key: Key | None = None
) -> tuple[RunRow, bool]:
    """
    Run a cron once more, enabled or not, unless an earlier request with this key has: then its run, and True.

    The cron's ticks stay as they are.

    :raises NotFound: there is no such cron, or its assistant is gone.
    :raises Conflict: its thread is busy and the strategy is to reject, or the key stands for another request.
    """
    made: list[Accepted] = []

    def prepare() -> Callable[[Tx], list[RunRow]]:
        row = get(rt, tenant_id, cron_id)
        new, ready = _prepared(rt, row)

        def make(tx: Tx) -> list[RunRow]:
            made.append(_write(tx, row, new, ready, tick=None))
            return [runs.stored(ready, made[0][0])]

        return make

    [run], is_replay = idempotency.once(
        rt, tenant_id, key, prepare=prepare, opened=lambda row: run_rows.opened(rt.vault, row)
    )
    for accepted in made:
        runs.tell(rt, *accepted)
    return run, is_replay


def _priority(rt: Runtime, row: Row) -> int | None:
    """What the operator's hook says of a cron's next run, if there is one."""
    with _encryption_of(row):
        [new] = runs.prioritised(rt, row["tenant_id"], row["thread_id"], [_new_run(row)])
    return new.priority


def _new_run(row: Row) -> NewRun:
    # Written by an older or a newer version too: what this one does not know cannot be honoured by it.
    known = {name: value for name, value in row["run"].items() if name in _NEW_RUN}
    return replace(
        NewRun(**known),
        metadata=row["metadata"],
        thread_metadata={} if row["thread_id"] else row["metadata"],
        cron_id=row["cron_id"],
    )


@contextmanager
def _encryption_of(row: Row) -> Iterator[None]:
    """What encryption handlers are told: what they were when the cron was made."""
    told = encryption_context.set(row["run"].get("encryption_context") or {})
    try:
        yield
    finally:
        encryption_context.reset(told)


def _write(tx: Tx, row: Row, new: NewRun, ready: Ready, *, tick: datetime | None) -> Accepted:
    run, stopped = runs.write(tx, ready)
    rows.stamp(tx, row["cron_id"], run["run_id"], tick=tick)
    return run, new, stopped


def fire(rt: Runtime, *, limit: int = 100) -> int:
    """
    Run every cron that is due, whoever else does the same at this moment. Returns how many ticks are done with.

    Ticks that were missed because nobody looked are made up for by one run.
    """
    with rt.autocommit.connect() as tx:
        found = rows.due(tx, limit=limit)
    return sum(_fire(rt, **row) for row in found)


def _fire(rt: Runtime, *, cron_id: str, thread_id: str | None, updated_at: datetime) -> bool:
    """Run and next tick in one transaction. What goes wrong with one cron does not concern the others."""
    try:
        with rt.autocommit.connect() as tx:
            row = rows.due_one(tx, cron_id)
        if row is None:
            return False
        ready = _tried(cron_id, lambda: _prepared(rt, row))
        with rt.engine.begin() as tx:
            now = rows.take(tx, cron_id, thread_id, as_of=row)
            if now is None:
                return False
            made, error = _fired(tx, row, ready)
            rows.advance(tx, cron_id, to=next_tick(_timing(row), now), error=error)
    except Exception as failure:
        error = _reason(cron_id, failure)
        if not (is_unavailable(failure) or is_conflict(failure)):
            with rt.autocommit.connect() as tx:
                rows.postpone(tx, cron_id, updated_at=updated_at, error=error)
        return False
    if made is not None:
        runs.tell(rt, *made)
        log().info(CRON_FIRED, cron_id=cron_id, run_id=made[0]["run_id"])
    return True


def _prepared(rt: Runtime, row: Row) -> tuple[NewRun, Ready]:
    """What a cron runs, before the transaction: hooks and encryption handlers may take their time."""
    new = replace(_new_run(row), priority=_priority(rt, row))
    with rt.autocommit.connect() as tx, _encryption_of(row):
        return new, runs.prepare(rt, tx, row["tenant_id"], row["thread_id"], new)


def _fired(
    tx: Tx, row: Row, ready: tuple[tuple[NewRun, Ready] | None, str | None]
) -> tuple[Accepted | None, str | None]:
    """Accept the run of a tick, if it could be prepared."""
    prepared, error = ready
    if prepared is None:
        return None, error

    def write() -> Accepted:
        with tx.begin_nested():
            return _write(tx, row, *prepared, tick=row["next_run_at"])

    return _tried(row["cron_id"], write)


def _tried(cron_id: str, step: Callable[[], T]) -> tuple[T | None, str | None]:
    """A step of a tick. One that cannot be honoured is passed over; the text says why."""
    try:
        return step(), None
    except Exception as error:
        if is_unavailable(error) or is_conflict(error) or isinstance(error, KeyMissing):
            raise
        return None, _reason(cron_id, error)


def _reason(cron_id: str, error: Exception) -> str:
    """Why a tick came to nothing: logged, and as a text that Postgres takes."""
    reason = f"{type(error).__name__}: {error}".split("\n")[0][:1000]
    log().warning(CRON_FAILED, cron_id=cron_id, error=reason)
    return reason.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
