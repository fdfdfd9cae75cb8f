"""The JSON of crons as types, as `schemas` has that of everything else."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from trellis.api.schemas import Config, Count, NodeNames, Object, Offset, Order
from trellis.api.texts import Id, Instant

# Requests


class CronRun(Struct, kw_only=True):
    """What each run of a cron is asked to do: fields of a run's own create."""

    input: Any = None
    config: Config | None = None
    context: Object | None = None
    metadata: Object | None = None
    stream_mode: str | list[str] | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    interrupt_before: NodeNames | None = None
    interrupt_after: NodeNames | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    checkpoint_during: bool | None = None
    multitask_strategy: Literal["enqueue", "reject", "interrupt", "rollback"] | None = None
    webhook: str | None = None


class ThreadCronCreate(CronRun, kw_only=True):
    assistant_id: str
    schedule: str
    timezone: str | None = None
    end_time: datetime | None = None
    enabled: bool | None = None


class CronCreate(ThreadCronCreate, kw_only=True):
    on_run_completed: Literal["delete", "keep"] | None = None


class CronPatch(CronRun, kw_only=True):
    schedule: str | UnsetType = UNSET
    timezone: str | None = None
    end_time: datetime | None = None
    enabled: bool | UnsetType = UNSET
    on_run_completed: Literal["delete", "keep"] | None = None


class CronCount(Struct, kw_only=True):
    assistant_id: Id | None = None
    thread_id: Id | None = None
    enabled: bool | None = None
    metadata: Object | None = None


class CronSearch(CronCount, kw_only=True):
    limit: Count = 10
    offset: Offset = 0
    sort_by: (
        Literal[
            "cron_id",
            "assistant_id",
            "thread_id",
            "next_run_date",
            "end_time",
            "created_at",
            "updated_at",
        ]
        | None
    ) = None
    sort_order: Order | None = None
    select: (
        list[
            Literal[
                "cron_id",
                "assistant_id",
                "thread_id",
                "user_id",
                "end_time",
                "schedule",
                "timezone",
                "payload",
                "next_run_date",
                "metadata",
                "on_run_completed",
                "enabled",
                "created_at",
                "updated_at",
            ]
        ]
        | None
    ) = None


# Responses


class Cron(Struct, kw_only=True):
    cron_id: Id
    assistant_id: Id
    thread_id: Id | None
    user_id: str
    end_time: str | None
    schedule: str
    timezone: str | None
    payload: Object
    next_run_date: Instant | None
    metadata: Object
    on_run_completed: Literal["delete", "keep"] | None
    enabled: bool
    created_at: Instant
    updated_at: Instant
