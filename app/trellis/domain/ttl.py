"""How long threads live, and how often somebody looks for those whose time is over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Ttl:
    """How long a thread lives after it was made or its last run ended, and what happens then."""

    minutes: float
    strategy: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadTtl:
    """What langgraph.json says of threads' time to live."""

    default: Ttl | None = None  #: of threads that are given none; None: they live for ever
    sweep_interval_minutes: float = 5.0
    sweep_limit: int = 1000  #: threads per sweep of a worker process
