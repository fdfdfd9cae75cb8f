"""From the body of a create or a patch to a NewCron: what each run will be asked for is checked as a run's create is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from trellis.api import body, new_run
from trellis.api.cron_schemas import CronCreate, CronPatch, CronRun, ThreadCronCreate
from trellis.api.schemas import RunCreate, StatelessRunCreate
from trellis.domain.crons import NewCron, Timing
from trellis.domain.new_run import NewRun
from trellis.errors import BadRequest, Invalid

#: Of a cron's create, what each run's create has too.
_RUN_FIELDS = ("assistant_id", *CronRun.__struct_fields__)
#: A cron belongs to them; another one is another cron.
_FIXED = ("assistant_id", "thread_id")


def created(data: Any, thread_id: str | None) -> NewCron:
    """
    What a body asks for: a cron of a thread, or (None) one whose runs have threads of their own.

    :raises Invalid: a value is wrong, not supported yet, or makes no sense for the cron of a thread.
    :raises BadRequest: values contradict each other.
    """
    _check_completion(data, thread_id)
    wanted = body.shape(data, CronCreate if thread_id is None else ThreadCronCreate)
    payload = {name: data[name] for name in wanted.__struct_fields__ if name in data}
    return _new_cron(payload, thread_id, metadata=body.metadata(wanted.metadata))


def sent(data: Any) -> Mapping[str, Any]:
    """
    What a patch changes.

    :raises Invalid: a value is wrong, or cannot be changed.
    :raises BadRequest: nothing is to be changed.
    """
    wanted = body.shape(data, CronPatch)
    for name in _FIXED:
        if name in data:
            raise Invalid(f"{name} of a cron cannot be changed. Create another cron.")
    changes = {name: data[name] for name in wanted.__struct_fields__ if name in data}
    if not changes:
        raise BadRequest("Request body cannot be empty")
    return changes


def changed(before: Mapping[str, Any], changes: Mapping[str, Any]) -> NewCron:
    """
    What a cron becomes; metadata is merged.

    :raises Invalid: a value is wrong, not supported yet, or makes no sense for the cron of a thread.
    :raises BadRequest: values contradict each other.
    """
    _check_completion(changes, before["thread_id"])
    metadata = {**before["metadata"], **(changes.get("metadata") or {})}
    payload = {**before["payload"], **changes}
    return _new_cron(payload, before["thread_id"], metadata=body.metadata(metadata))


def _check_completion(given: Mapping[str, Any], thread_id: str | None) -> None:
    if thread_id and given.get("on_run_completed") is not None:
        raise Invalid("The cron of a thread has no on_run_completed: its runs keep their thread.")


def _new_cron(
    payload: Mapping[str, Any], thread_id: str | None, *, metadata: Mapping[str, Any]
) -> NewCron:
    wanted = body.shape(payload, CronCreate)
    on_run_completed = None if thread_id else wanted.on_run_completed or "delete"
    return NewCron(
        timing=Timing(
            schedule=wanted.schedule,
            timezone=wanted.timezone,
            end_time=_utc(wanted.end_time),
            enabled=wanted.enabled is not False,
        ),
        thread_id=thread_id,
        on_run_completed=on_run_completed,
        metadata=metadata,
        payload=payload,
        run=_run(payload, thread_id, on_run_completed),
    )


def _run(payload: Mapping[str, Any], thread_id: str | None, on_run_completed: str | None) -> NewRun:
    fields = {name: payload[name] for name in _RUN_FIELDS if name in payload}
    if thread_id is not None:
        return new_run.on_thread(body.shape(fields, RunCreate), request_id="")
    fields["on_completion"] = on_run_completed
    return new_run.stateless(body.shape(fields, StatelessRunCreate), request_id="")


def _utc(at: datetime | None) -> datetime | None:
    """Without an offset it is UTC, as a schedule without a time zone is."""
    if at is None:
        return None
    try:
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise Invalid(f"end_time {at} is out of range") from None
