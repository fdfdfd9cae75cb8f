"""Use cases of runs: create (plain, batch, stateless), read, and what a waiting client is told in the end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from trellis.db import assistants as assistant_rows
from trellis.db import runs as rows
from trellis.db import threads as thread_rows
from trellis.db.access import forbidden
from trellis.db.cancel import Stopped
from trellis.db.checkpoints import plain_values
from trellis.db.engine import Tx
from trellis.domain.access import Condition
from trellis.domain.assistants import merge_config, merge_context, mirrored
from trellis.domain.encryption import context as encryption_context
from trellis.domain.idempotency import Key
from trellis.domain.ids import default_assistant_id, is_uuid, new_id
from trellis.domain.multitask import Strategy
from trellis.domain.new_run import EVENT_STREAMING, NewRun
from trellis.domain.runs import RunState, RunStatus
from trellis.domain.ttl import Ttl
from trellis.errors import Invalid, NotFound, ThreadNotFound
from trellis.runtime import Runtime
from trellis.services import cancel, idempotency, priorities, webhooks
from trellis.stream import encoder

RunRow = Mapping[str, Any]


def create(rt: Runtime, tenant_id: str, thread_id: str | None, new: NewRun) -> RunRow:
    """
    Accept a run, and tell the workers.

    `thread_id` None means stateless: the run gets a thread of its own. Accepted means committed: nothing that
    happens later loses it.

    :raises NotFound: there is no such thread or assistant.
    """
    webhooks.check(rt.manifest.webhooks, [new.webhook])
    [new] = prioritised(rt, tenant_id, thread_id, [new])
    if thread_id is not None and new.multitask_strategy != Strategy.ENQUEUE:
        return _create_alone(rt, tenant_id, thread_id, new)
    with rt.autocommit.connect() as tx:
        run, stopped = write(tx, prepare(rt, tx, tenant_id, thread_id, new))
    tell(rt, run, new, stopped)
    return run


def _create_alone(rt: Runtime, tenant_id: str, thread_id: str, new: NewRun) -> RunRow:
    """Accept a run that waits for no other: in one transaction with what becomes of those."""
    with rt.autocommit.connect() as tx:
        ready = prepare(rt, tx, tenant_id, thread_id, new)
    with rt.engine.begin() as tx:
        run, stopped = write(tx, ready)
    tell(rt, run, new, stopped)
    return run


def create_batch(rt: Runtime, tenant_id: str, news: Sequence[NewRun]) -> Sequence[RunRow]:
    """Accept stateless runs, all or none."""
    webhooks.check(rt.manifest.webhooks, [new.webhook for new in news])
    news = prioritised(rt, tenant_id, None, news)
    with rt.autocommit.connect() as tx:
        ready = [prepare(rt, tx, tenant_id, None, new) for new in news]
    with rt.engine.begin() as tx:
        runs = [write(tx, each)[0] for each in ready]
    for run, new in zip(runs, news, strict=True):
        tell(rt, run, new, Stopped())
    return runs


def create_once(
    rt: Runtime, tenant_id: str, thread_id: str | None, news: Sequence[NewRun], *, key: Key
) -> tuple[Sequence[RunRow], bool]:
    """
    Accept runs unless an earlier request with this key has: then the rows as they were accepted, and True.

    :raises NotFound: there is no such thread or assistant.
    :raises Conflict: the key stands for another request.
    """
    made: list[tuple[RunRow, Stopped]] = []

    def prepare_all() -> Callable[[Tx], list[RunRow]]:
        webhooks.check(rt.manifest.webhooks, [new.webhook for new in news])
        asked = prioritised(rt, tenant_id, thread_id, news)
        with rt.autocommit.connect() as tx:
            ready = [prepare(rt, tx, tenant_id, thread_id, new) for new in asked]

        def make(tx: Tx) -> list[RunRow]:
            made.extend(write(tx, each) for each in ready)
            return [stored(each, run) for each, (run, _) in zip(ready, made, strict=True)]

        return make

    runs, is_replay = idempotency.once(
        rt, tenant_id, key, prepare=prepare_all, opened=lambda row: rows.opened(rt.vault, row)
    )
    for new, (run, stopped) in zip(news, made, strict=False):
        tell(rt, run, new, stopped)
    return runs, is_replay


def stored(ready: Ready, run: RunRow) -> RunRow:
    """An accepted run as the database has it: what is secret of it is encrypted."""
    sealed = {name: orjson.loads(ready.stored[name]) for name in ("metadata", "kwargs")}
    shown = {name: value for name, value in run.items() if not name.startswith("thread_")}
    return {**shown, "thread_id": run["thread_id"], **sealed}


def prioritised(
    rt: Runtime, tenant_id: str, thread_id: str | None, news: Sequence[NewRun]
) -> Sequence[NewRun]:
    """The runs with what the operator's hook says of their threads, where there is one."""
    if rt.priority is None:
        return news
    with rt.autocommit.connect() as tx:
        contexts = [_priority_context(rt, tx, tenant_id, thread_id, new) for new in news]
    found = priorities.ask(rt, tenant_id, contexts)
    return [replace(new, priority=each) for new, each in zip(news, found, strict=True)]


def _priority_context(
    rt: Runtime, tx: Tx, tenant_id: str, thread_id: str | None, new: NewRun
) -> Any:
    """What the hook is told. None: the thread has its priority, or nothing can run, which others will say."""
    try:
        assistant_id = resolve_assistant(rt, tenant_id, new.assistant_id)
        thread = thread_id and rows.subject(tx, tenant_id, thread_id, assistant_id=assistant_id)
        if thread and thread["priority"] is not None:
            return None
        assistant = _assistant(rt, tx, tenant_id, new, None)
    except (Invalid, NotFound):
        return None
    made = {**new.thread_metadata, **new.stamp}
    metadata = thread["thread_metadata"] if thread else made
    return priorities.context_of(
        new,
        assistant,
        thread_id,
        thread_metadata=metadata,
        run_metadata=_metadata(new, assistant, metadata if thread_id else None),
    )


def tell(rt: Runtime, run: RunRow, new: NewRun, stopped: Stopped) -> None:
    """
    Tell whom an accepted run concerns: the workers, and the runs that made room for it.

    After the commit, so that no worker looks for a row it cannot see yet. A delayed run is found when it is due.
    """
    cancel.tell_superseded(rt, stopped)
    if new.after_seconds <= 0:
        rt.announcer(run["run_id"], run["graph_id"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A run that has only to be written."""

    run: RunRow
    tenant_id: str
    stored: rows.Sealed
    makes_thread: bool = False
    temporary: bool = False  #: the thread that it makes
    ttl: Ttl | None = None  #: likewise
    allowed: Condition | None = (
        None  #: what a thread must meet that another request has made meanwhile
    )


def prepare(rt: Runtime, tx: Tx, tenant_id: str, thread_id: str | None, new: NewRun) -> Ready:
    """
    Read, merge and encrypt. What changes before it is written is as if it had changed right after.

    In autocommit, if it can be: encryption handlers take longer than Postgres waits for a transaction.

    :raises NotFound: there is no such thread or assistant.
    """
    if thread_id is None:
        return _prepare_stateless(rt, tx, tenant_id, new)
    assistant_id = resolve_assistant(rt, tenant_id, new.assistant_id)
    subject = rows.subject(tx, tenant_id, thread_id, assistant_id=assistant_id)
    if subject is None:
        return _prepare_with_thread(rt, tx, tenant_id, thread_id, new)
    assistant = _assistant(rt, tx, tenant_id, new, subject if subject["assistant_id"] else None)
    run = _compose(rt, new, assistant, thread_id, thread_metadata=subject["thread_metadata"])
    stored = rows.sealed(rt.vault, {**run, "tenant_id": tenant_id})
    return Ready(run=run, tenant_id=tenant_id, stored=stored)


def _prepare_with_thread(rt: Runtime, tx: Tx, tenant_id: str, thread_id: str, new: NewRun) -> Ready:
    if new.if_not_exists != "create":
        raise NotFound("Thread or assistant not found.")
    assistant = _assistant(rt, tx, tenant_id, new, None)
    run = _compose(rt, new, assistant, thread_id, thread_metadata={})
    return Ready(
        run=run,
        tenant_id=tenant_id,
        stored=rows.sealed(rt.vault, _stamped(run, tenant_id, new)),
        makes_thread=True,
        ttl=rt.manifest.thread_ttl.default,
        allowed=new.allowed,
    )


def _prepare_stateless(rt: Runtime, tx: Tx, tenant_id: str, new: NewRun) -> Ready:
    assistant = _assistant(rt, tx, tenant_id, new, None)
    temporary = new.on_completion == "delete"
    run = _compose(rt, new, assistant, new_id(), thread_metadata=None, temporary=temporary)
    return Ready(
        run=run,
        tenant_id=tenant_id,
        stored=rows.sealed(rt.vault, _stamped(run, tenant_id, new)),
        makes_thread=True,
        temporary=temporary,
        ttl=None if temporary else rt.manifest.thread_ttl.default,
    )


def write(tx: Tx, ready: Ready) -> tuple[RunRow, Stopped]:
    """
    Accept a prepared run in the caller's transaction, who then tells of it.

    In one statement where it makes no room for itself: then in autocommit, too.

    :raises NotFound: its thread is gone.
    """
    if not ready.makes_thread:
        return _write_on_thread(tx, ready, ready.stored)
    made = rows.enqueue_with_thread(tx, ready.stored, temporary=ready.temporary, ttl=ready.ttl)
    if made:
        return _accepted(ready.run, made), Stopped()
    # Another request made the thread meanwhile; or it is somebody else's, and this finds nothing either.
    ids = [ready.run["thread_id"]]
    if ready.allowed and forbidden(tx, ready.tenant_id, "threads", ids, ready.allowed):
        raise NotFound("Thread or assistant not found.")
    return _write_on_thread(tx, ready, {**ready.run, "tenant_id": ready.tenant_id})


def _write_on_thread(tx: Tx, ready: Ready, row: RunRow) -> tuple[RunRow, Stopped]:
    run = ready.run
    stopped: Stopped | None = Stopped()
    if run["multitask_strategy"] != Strategy.ENQUEUE:
        stopped = cancel.make_room(
            tx,
            ready.tenant_id,
            run["thread_id"],
            strategy=run["multitask_strategy"],
            run_id=run["run_id"],
        )
    if stopped is None:
        raise NotFound("Thread or assistant not found.")
    return _accepted(run, rows.enqueue(tx, row)), stopped


def _stamped(run: RunRow, tenant_id: str, new: NewRun) -> dict[str, Any]:
    """The run with the metadata that makes its new thread its creator's."""
    stamped = {**run["thread_metadata"], **new.stamp}
    return {**run, "tenant_id": tenant_id, "thread_metadata": stamped}


def _accepted(run: RunRow, times: RunRow | None) -> RunRow:
    if times is None:
        raise NotFound("Thread or assistant not found.")
    return {**run, **times, "status": RunStatus.PENDING.value, "error": None, "attempt": 0}


def resolve_assistant(rt: Runtime, tenant_id: str, given: str) -> str:
    """
    The id of the assistant that a client named by id or by graph.

    :raises Invalid: it is neither a UUID nor the name of a graph.
    """
    if given in rt.manifest.graphs:
        return default_assistant_id(given, tenant_id)
    if is_uuid(given):
        return str(uuid.UUID(given))
    raise Invalid(
        f"Invalid assistant: '{given}'. Must be either:\n- A valid assistant UUID, or\n"
        f"- One of the registered graphs: {', '.join(rt.manifest.graphs)}"
    )


def _assistant(rt: Runtime, tx: Tx, tenant_id: str, new: NewRun, found: RunRow | None) -> RunRow:
    """The assistant's row; a graph's default assistant is made on the spot if nobody has yet."""
    if found is None:
        assistant_id = resolve_assistant(rt, tenant_id, new.assistant_id)
        found = rows.get_assistant(tx, tenant_id, assistant_id)
    if found is None and new.assistant_id in rt.manifest.graphs:
        assistant_rows.ensure_default(tx, tenant_id, rt.manifest.graphs[new.assistant_id])
        assistant_id = default_assistant_id(new.assistant_id, tenant_id)
        found = rows.get_assistant(tx, tenant_id, assistant_id)
    if found is None:
        raise NotFound("Thread or assistant not found.")
    return found


def _stamp(assistant: RunRow) -> dict[str, str]:
    return {"graph_id": assistant["graph_id"], "assistant_id": assistant["assistant_id"]}


def _thread_config(assistant: RunRow, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a thread shows of its last run's config: nothing that the server added, or that was for this run only."""
    shown = {key: config[key] for key in ("tags", "recursion_limit") if key in config}
    return {**shown, "configurable": assistant["config"].get("configurable", {})}


def _compose(
    rt: Runtime,
    new: NewRun,
    assistant: RunRow,
    thread_id: str,
    *,
    thread_metadata: Mapping[str, Any] | None,
    temporary: bool = False,
) -> dict[str, Any]:
    """The run as it will be stored: assistant, thread (None: stateless) and request merged, our own keys added."""
    run_id = new_id()
    metadata = _metadata(new, assistant, thread_metadata)
    config = _config(new, assistant, metadata, run_id=run_id, thread_id=thread_id)
    kwargs = _kwargs(new, assistant, config, temporary=temporary)
    return {
        "run_id": run_id,
        "thread_id": thread_id,
        "assistant_id": assistant["assistant_id"],
        "graph_id": assistant["graph_id"],
        "metadata": metadata,
        "kwargs": kwargs,
        "multitask_strategy": new.multitask_strategy,
        "after_seconds": new.after_seconds,
        "priority": new.priority,
        "timeout_seconds": rt.settings.run_timeout_seconds,
        "max_crashes": 1 + rt.settings.max_retries,
        "webhook": None if rt.manifest.webhooks.disabled else new.webhook,
        "thread_metadata": {**_stamp(assistant), **new.thread_metadata},
        "thread_config": _thread_config(assistant, config),
    }


def _config(
    new: NewRun, assistant: RunRow, metadata: Mapping[str, Any], *, run_id: str, thread_id: str
) -> dict[str, Any]:
    """The config of the run: the assistant's, the request's, and what the server adds."""
    config = merge_config(
        assistant["config"],
        mirrored(new.config, new.context),
        configurable={
            **_checkpoint(new),
            **new.headers,
            **_user(new.user),
            "langgraph_request_id": new.request_id or None,
            **({"cron_id": new.cron_id} if new.cron_id else {}),
            **({EVENT_STREAMING: True} if new.event_streaming else {}),
            "run_id": run_id,
            "thread_id": thread_id,
            "graph_id": assistant["graph_id"],
            "assistant_id": assistant["assistant_id"],
        },
    )
    config["configurable"].setdefault("user_id", new.user["identity"] if new.user else "")
    config["metadata"] = {
        **assistant["config"].get("metadata", {}),
        **new.config.get("metadata", {}),
        **metadata,
    }
    return config


def _metadata(
    new: NewRun, assistant: RunRow, thread_metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The run's metadata; thread_metadata None: it is stateless."""
    stateful = (
        {} if thread_metadata is None else {**thread_metadata, "graph_id": assistant["graph_id"]}
    )
    return {
        **assistant["metadata"],
        **stateful,
        "assistant_id": assistant["assistant_id"],
        **new.metadata,
    }


def _user(user: Mapping[str, Any] | None) -> dict[str, Any]:
    """Who started the run, for its nodes and its graph's factory."""
    return {
        "langgraph_auth_user": user,
        "langgraph_auth_user_id": user["identity"] if user else "",
        "langgraph_auth_permissions": user["permissions"] if user else [],
    }


def _checkpoint(new: NewRun) -> dict[str, Any]:
    keys = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
    return {key: new.checkpoint[key] for key in keys if new.checkpoint and key in new.checkpoint}


def _kwargs(
    new: NewRun, assistant: RunRow, config: Mapping[str, Any], *, temporary: bool
) -> dict[str, Any]:
    context = merge_context(assistant["context"], assistant["config"], new.context, new.config)
    told = encryption_context.get()
    return {
        **({"encryption_context": told} if told else {}),
        "input": new.input,
        "command": new.command,
        "config": config,
        "context": context,
        "stream_mode": list(new.stream_mode),
        "interrupt_before": new.interrupt_before,
        "interrupt_after": new.interrupt_after,
        "webhook": new.webhook,
        "feedback_keys": new.feedback_keys,
        "temporary": temporary,
        "subgraphs": new.stream_subgraphs,
        "resumable": new.stream_resumable,
        "checkpoint_during": new.durability != "exit",
        "durability": new.durability,
        "strict_resume": new.strict_resume,
    }


def get(rt: Runtime, tenant_id: str, thread_id: str, run_id: str) -> RunRow:
    """
    A run of a thread.

    :raises NotFound: there is no such run, or its thread is not there for clients.
    """
    with rt.autocommit.connect() as tx:
        _visible_thread(tx, tenant_id, thread_id)
        run = rows.get(tx, tenant_id, thread_id, run_id)
    if run is None:
        raise NotFound("Not Found")
    return run


def find(rt: Runtime, tenant_id: str, run_id: str) -> RunRow:
    """A run by its id alone, as stateless clients know it. :raises NotFound:"""
    with rt.autocommit.connect() as tx:
        run = rows.find(tx, tenant_id, run_id)
    if run is None:
        raise NotFound("Not Found")
    return run


def list_(
    rt: Runtime, tenant_id: str, thread_id: str, *, limit: int, offset: int, status: str | None
) -> Sequence[RunRow]:
    """The runs of a thread, newest first. :raises ThreadNotFound:"""
    with rt.autocommit.connect() as tx:
        _visible_thread(tx, tenant_id, thread_id)
        return rows.list_(tx, tenant_id, thread_id, limit=limit, offset=offset, status=status)


def _visible_thread(tx: Tx, tenant_id: str, thread_id: str) -> None:
    if not thread_rows.exists(tx, tenant_id, thread_id):
        raise ThreadNotFound(thread_id)


def state(rt: Runtime, run_id: str) -> RunState | None:
    """Whether a run is over, as Postgres has it. None means there is no such run."""
    with rt.autocommit.connect() as tx:
        row = rows.state(tx, run_id)
    if row is None:
        return None
    return RunState(status=RunStatus(row["status"]), fence=row["fence"], error=row["error"])


async def state_later(rt: Runtime, run_id: str) -> RunState | None:
    """The same on the event loop, where many ask at once whether theirs go on."""
    active = await rt.states.active(run_id)
    return active or await asyncio.to_thread(state, rt, run_id)


def final_values(rt: Runtime, run_id: str, thread_id: str) -> bytes:
    """What a client that waited is told when the stream cannot tell: JSON, read from Postgres."""
    with rt.autocommit.connect() as tx:
        run = rows.state(tx, run_id)
        if run is not None and run["status"] == RunStatus.ERROR:
            return encoder.dumps({"__error__": run["error"]})
        states = thread_rows.states(tx, [thread_id])
        values = plain_values(tx, [thread_id], states=states).get(thread_id)
        questions = thread_rows.interrupts(tx, thread_id)
    if questions and isinstance(values, dict):
        values = {**values, "__interrupt__": questions}
    return encoder.dumps(values)
