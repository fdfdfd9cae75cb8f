"""Whether what the process depends on answers, and what waits in the queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from trellis.db import health
from trellis.runtime import Runtime


def check(rt: Runtime) -> dict[str, str]:
    """Ask every dependency for an answer: `ok` or `unreachable` by name."""
    return {
        "database": "ok" if health.answers(rt.engine) else "unreachable",
        "redis": "ok" if _redis_answers(rt) else "unreachable",
    }


def queue(rt: Runtime) -> Mapping[str, Any] | None:
    """The numbers of the queue. None means that the database does not answer."""
    return health.queue(rt.engine)


def _redis_answers(rt: Runtime) -> bool:
    try:
        rt.redis.ping()
    except redis.RedisError:
        return False
    return True
