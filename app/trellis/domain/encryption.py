"""What is encrypted at rest, with which keys or by whom, as the environment and langgraph.json say it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

#: Keys that statements, workers or clients find rows by: their values are never encrypted in metadata.
NEEDED = frozenset(
    {
        "assistant_id", "checkpoint_id", "checkpoint_map", "checkpoint_ns", "configurable",
        "counters_since_delta_snapshot", "created_by", "cron_id", "graph_id", "langgraph_api_url",
        "langgraph_api_version", "langgraph_auth_permissions", "langgraph_auth_user",
        "langgraph_auth_user_id", "langgraph_host", "langgraph_plan", "langgraph_request_id",
        "langgraph_version", "owner", "parents", "recursion_limit", "run_attempt", "run_id", "source",
        "step", "tags", "task_id", "thread_id", "user_id",
    }
)  # fmt: skip

#: What the operator's handlers are told of the request or the run at hand: the key to choose, for example.
context: ContextVar[Mapping[str, Any]] = ContextVar("encryption_context", default={})  # noqa: B039  # never changed


@dataclass(frozen=True, kw_only=True, slots=True)
class Encryption:
    """Without keys and handlers nothing is encrypted."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)  #: the first encrypts, all decrypt
    names: frozenset[str] = frozenset()  #: keys whose values are encrypted in metadata and configs
    is_required: bool = False  #: rows that are not encrypted are refused
    path: str | None = None  #: where the operator's handlers are


def names_in(value: Any, names: frozenset[str]) -> set[str]:
    """Those of the names that are keys anywhere in JSON data."""
    if isinstance(value, Mapping):
        below = (names_in(item, names) for item in value.values())
        return set(names & value.keys()).union(*below)
    if isinstance(value, list | tuple):
        return set().union(*(names_in(item, names) for item in value))
    return set()
