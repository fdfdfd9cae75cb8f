"""Tell the workers that a run waits: a Celery message that carries its id, and nothing else.

The message is a hint. Losing, doubling or delaying it costs latency and no run, so it is sent once, after the
commit, with a short timeout, and a failure is only reported to the caller.
"""

from __future__ import annotations

import base64
import time
import uuid

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from trellis.telemetry import ANNOUNCE_FAILED, log

#: The Celery queue of ordinary runs, and the Redis list that holds it.
QUEUE = "runs"
#: After a failure, how long further announcements are skipped: a broker that is down must not slow down each request.
_BREAK_SECONDS = 1.0

_ORIGIN = "trellis"
_REPLY_TO = str(uuid.uuid4())


def task_name(graph_id: str) -> str:
    """The Celery task of a graph, so that Flower and its metrics speak of graphs."""
    return f"run:{graph_id}"


def message(run_id: str, graph_id: str) -> bytes:
    """
    The message as kombu's Redis transport writes it (Celery's protocol 2), task id = run id.

    Built by hand because Celery's `send_task` costs more than the SQL that creates the run
    (about 300 µs); a test compares the two.
    """
    body = orjson.dumps(
        [[run_id], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    )
    return orjson.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task_name(graph_id),
                "id": run_id,
                "shadow": None,
                "eta": None,
                "expires": None,
                "group": None,
                "group_index": None,
                "retries": 0,
                "timelimit": [None, None],
                "root_id": run_id,
                "parent_id": None,
                "argsrepr": f"('{run_id}',)",
                "kwargsrepr": "{}",
                "origin": _ORIGIN,
                "ignore_result": True,
                "replaced_task_nesting": 0,
                "stamped_headers": None,
                "stamps": {},
            },
            "properties": {
                "correlation_id": run_id,
                "reply_to": _REPLY_TO,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )


def connect(url: str, *, max_connections: int) -> redis.Redis:
    """A Redis client that fails within about a second instead of holding up a request."""
    return redis.Redis.from_url(
        url,
        protocol=2,
        max_connections=max_connections,
        socket_timeout=1.0,
        socket_connect_timeout=0.5,
        socket_keepalive=True,
        health_check_interval=30,
        # One more try at once: a pooled connection may have been closed by the server while idle.
        retry=Retry(NoBackoff(), 1),
    )


class Announcer:
    """Sends hints; skips them for a moment after the broker failed."""

    def __init__(self, client: redis.Redis, *, key_prefix: str = "") -> None:
        self._client = client
        self._key = key_prefix + QUEUE
        self._closed_until = 0.0

    def __call__(self, run_id: str, graph_id: str) -> bool:
        """Announce a run. False means that nobody was told: the workers find it in Postgres by themselves."""
        if time.monotonic() < self._closed_until:
            return False
        try:
            self._client.lpush(self._key, message(run_id, graph_id))
        except redis.RedisError as error:
            self._closed_until = time.monotonic() + _BREAK_SECONDS
            log().warning(ANNOUNCE_FAILED, run_id=run_id, error=str(error))
            return False
        return True
