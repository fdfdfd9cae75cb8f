"""Rows and snapshots as the JSON that clients read; the only place that orders its fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from flask import Response

from trellis.domain.users import shown_kwargs
from trellis.errors import Invalid

Row = Mapping[str, Any]
T = TypeVar("T")

RUN_FIELDS = (
    "run_id",
    "thread_id",
    "assistant_id",
    "metadata",
    "status",
    "kwargs",
    "multitask_strategy",
    "created_at",
    "updated_at",
    "langsmith_session_name",
    "cancel_reason",
)
STATE_FIELDS = (
    "values",
    "next",
    "tasks",
    "metadata",
    "created_at",
    "checkpoint",
    "parent_checkpoint",
    "interrupts",
    "checkpoint_id",
    "parent_checkpoint_id",
)
_CHECKPOINT_KEYS = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")
_UPDATED_KEYS = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")


def answer(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return raw_answer(orjson.dumps(data), status=status, headers=headers)


def raw_answer(
    data: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON response from JSON that is encoded already."""
    return Response(data, status=status, headers=headers, content_type="application/json")


def nothing(*, status: int = 204) -> Response:
    """A response without a body, and so without a type."""
    response = Response(status=status)
    del response.headers["Content-Type"]
    return response


def page(rows: Sequence[T], *, limit: int, offset: int) -> tuple[Sequence[T], dict[str, str]]:
    """The rows of a page, and the headers that tell of the next; `rows` holds one more if there is."""
    shown = rows[:limit]
    total = offset + len(shown)
    if len(rows) <= limit:
        return shown, {"X-Pagination-Total": str(total)}
    return shown, {"X-Pagination-Total": str(total + 1), "X-Pagination-Next": str(offset + limit)}


def time(at: datetime) -> str:
    """A point in time: UTC, always with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def assistant(row: Row) -> dict[str, Any]:
    """An assistant."""
    return {
        "assistant_id": row["assistant_id"],
        "graph_id": row["graph_id"],
        "config": row["config"],
        "context": row["context"],
        "metadata": row["metadata"],
        "name": row["name"],
        "created_at": time(row["created_at"]),
        "updated_at": time(row["updated_at"]),
        "version": row["version"],
        "description": row["description"],
    }


def assistant_version(row: Row) -> dict[str, Any]:
    """A version of an assistant."""
    return {**row, "created_at": time(row["created_at"])}


def graph_schemas(row: Row) -> dict[str, Any]:
    """The schemas of a graph."""
    return {"graph_id": row["graph_id"], **schemas(row["info"])}


def schemas(info: Row) -> dict[str, Any]:
    """The schemas of a graph or a subgraph; one that cannot be told is null."""
    kinds = ("input", "output", "state", "config", "context")
    return {f"{kind}_schema": info.get(f"{kind}_schema") for kind in kinds}


def thread(row: Row, values: Any, *, with_ttl: bool = False) -> dict[str, Any]:
    """A thread with its current values, None before anything was saved."""
    shown = {
        "thread_id": row["thread_id"],
        "created_at": time(row["created_at"]),
        "updated_at": time(row["updated_at"]),
        "state_updated_at": time(row["state_updated_at"]),
        "metadata": row["metadata"],
        "status": row["status"],
        "config": row["config"],
        "values": values,
        "error": row["error"],
        "interrupts": row["interrupts"],
    }
    return {**shown, "ttl": _ttl(row)} if with_ttl else shown


def storage(thread_id: str, row: Row) -> dict[str, Any]:
    """What a thread takes in the database."""
    by_channel = row["by_channel"]
    values = {
        "count": sum(each["versions"] for each in by_channel.values()),
        "bytes": sum(each["bytes"] for each in by_channel.values()),
    }
    return {
        "thread_id": thread_id,
        "total_bytes": row["checkpoint_bytes"] + values["bytes"] + row["write_bytes"],
        "checkpoints": {"count": row["checkpoint_count"], "bytes": row["checkpoint_bytes"]},
        "channel_values": {**values, "by_channel": by_channel},
        "pending_writes": {"count": row["write_count"], "bytes": row["write_bytes"]},
    }


def run(row: Row) -> dict[str, Any]:
    """A run. Its kwargs are stored as they are shown, but for what only its user may know."""
    return {
        "run_id": row["run_id"],
        "thread_id": row["thread_id"],
        "assistant_id": row["assistant_id"],
        "metadata": row["metadata"],
        "status": row["status"],
        "kwargs": shown_kwargs(row["kwargs"]),
        "multitask_strategy": row["multitask_strategy"],
        "created_at": time(row["created_at"]),
        "updated_at": time(row["updated_at"]),
        "langsmith_session_name": None,
        "cancel_reason": row.get("cancel_reason"),
    }


def item(found: Any) -> dict[str, Any]:
    """An item of the store."""
    return {
        "namespace": list(found.namespace),
        "key": found.key,
        "value": found.value,
        "created_at": time(found.created_at),
        "updated_at": time(found.updated_at),
    }


def cron(row: Row) -> dict[str, Any]:
    """A cron. Its end is shown as it was sent."""
    due = row["next_run_at"]
    return {
        "cron_id": row["cron_id"],
        "assistant_id": row["assistant_id"],
        "thread_id": row["thread_id"],
        "user_id": row["user_id"],
        "end_time": row["payload"].get("end_time"),
        "schedule": row["schedule"],
        "timezone": row["timezone"],
        "payload": row["payload"],
        "next_run_date": due and due.astimezone(UTC).isoformat(),
        "metadata": row["metadata"],
        "on_run_completed": row["on_run_completed"],
        "enabled": row["enabled"],
        "created_at": time(row["created_at"]),
        "updated_at": time(row["updated_at"]),
    }


def webhook(row: Row) -> dict[str, Any]:
    """The delivery of a run's webhook."""
    status = "delivered" if row["delivered_at"] else "given_up" if row["given_up_at"] else "pending"
    return {
        "url": row["url"],
        "status": status,
        "attempts": row["log"],
        "next_attempt_at": time(row["next_attempt_at"]) if status == "pending" else None,
    }


def selected(shown: Mapping[str, Any], fields: Sequence[str] | None) -> Mapping[str, Any]:
    """Only the fields asked for; None means all."""
    return shown if fields is None else {key: shown[key] for key in shown if key in fields}


def empty_state() -> dict[str, Any]:
    """The state of a thread on which nothing was saved."""
    return {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": None,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": None,
        "parent_checkpoint_id": None,
    }


def state(snapshot: Any) -> dict[str, Any]:
    """A LangGraph StateSnapshot. Its values may hold any object: encode with `stream.encoder`."""
    at = _checkpoint(snapshot.config)
    parent = _checkpoint(snapshot.parent_config)
    return {
        "values": snapshot.values,
        "next": list(snapshot.next),
        "tasks": [_task(task) for task in snapshot.tasks],
        "metadata": snapshot.metadata,
        "created_at": snapshot.created_at,
        "checkpoint": at,
        "parent_checkpoint": parent,
        "interrupts": _interrupts(snapshot.interrupts),
        "checkpoint_id": at.get("checkpoint_id") if at else None,
        "parent_checkpoint_id": parent.get("checkpoint_id") if parent else None,
    }


def updated_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint that a change of state made, under each of the names that clients look for."""
    at = {key: checkpoint[key] for key in _UPDATED_KEYS if key in checkpoint}
    return {"checkpoint": at, "configurable": at, "checkpoint_id": at["checkpoint_id"]}


def check_selection(select: Sequence[str] | None) -> None:
    """
    Refuse parts that a state does not have.

    :raises Invalid: there is no such part.
    """
    names = [name for name in select or () if name.partition(".")[0] not in STATE_FIELDS]
    if names:
        raise Invalid(f"Invalid select fields: {names}. Expected: {list(STATE_FIELDS)}")


def selected_state(shown: Mapping[str, Any], select: Sequence[str] | None) -> Mapping[str, Any]:
    """Only the parts of a state asked for: fields, or single values as `values.<key>`."""
    if not select:
        return shown
    parts = selected(shown, select)
    keys = [name.removeprefix("values.") for name in select if name.startswith("values.")]
    if "values" in parts or not keys or not isinstance(shown["values"], Mapping):
        return parts
    return {"values": selected(shown["values"], keys), **parts}


def _task(task: Any) -> dict[str, Any]:
    at = task.state["configurable"] if isinstance(task.state, Mapping) else None
    is_snapshot = task.state is not None and at is None
    return {
        "id": task.id,
        "name": task.name,
        "path": list(task.path),
        "error": task.error if isinstance(task.error, str | None) else repr(task.error),
        "interrupts": _interrupts(task.interrupts),
        "checkpoint": at and {key: at[key] for key in ("thread_id", "checkpoint_ns") if key in at},
        "state": state(task.state) if is_snapshot else None,
        "result": task.result,
    }


def _interrupts(interrupts: Iterable[Any]) -> list[dict[str, Any]]:
    return [_interrupt(interrupt) for interrupt in interrupts]


def _interrupt(interrupt: Any) -> dict[str, Any]:
    # Clients build `Interrupt(**this)`, and older ones do not know response_schema.
    shown = {"id": interrupt.id, "value": interrupt.value}
    schema = getattr(interrupt, "response_schema", None)
    return shown if schema is None else {**shown, "response_schema": schema}


def _checkpoint(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    where = config["configurable"]
    return {key: where[key] for key in _CHECKPOINT_KEYS if key in where}


def _ttl(row: Row) -> dict[str, Any] | None:
    if row["ttl_minutes"] is None:
        return None
    return {
        "strategy": row["ttl_strategy"],
        "ttl_minutes": row["ttl_minutes"],
        "expires_at": row["expires_at"] and time(row["expires_at"]),
    }


def queue(row: Row) -> dict[str, Any]:
    """The queue of runs; seconds, None when nothing waits."""
    return {
        "n_pending": row["n_pending"],
        "n_running": row["n_running"],
        "pending_runs_wait_time_max_secs": row["wait_max"],
        "pending_runs_wait_time_med_secs": row["wait_median"],
        "pending_unblocked_runs_wait_time_max_secs": row["unblocked_wait_max"],
    }


def workers(row: Row) -> dict[str, int]:
    """How many runs the workers can execute at once, how many they do, and how many more they could."""
    most, active = row["workers_max"], row["workers_active"]
    return {"max": most, "active": active, "available": max(most - active, 0)}
