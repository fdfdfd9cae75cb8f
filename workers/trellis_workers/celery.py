"""The Celery application of the workers: every setting with its reason.

A message is a hint that carries a run id (trellis.dispatch.announce). Nothing here decides whether a run is lost:
Postgres does.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from celery import Celery
from kombu.entity import Queue

from trellis.dispatch.announce import QUEUE
from trellis.settings import Settings, load

#: Longest a broker command may take, in seconds. Without it a half-open connection hangs the consumer for ever.
_SOCKET_TIMEOUT = 5


def new_app(settings: Settings) -> Celery:
    """Make the application for this broker."""
    app = Celery("trellis", broker=settings.redis_url)
    app.conf.update(_settings(settings))
    app.events.dispatcher_cls = "trellis_workers.broker:Dispatcher"
    return app


def _settings(settings: Settings) -> dict[str, Any]:
    return {
        # A lost message costs nothing (Postgres has the run), a redelivered one of a long run is noise.
        "task_acks_late": False,
        # Results live in Postgres: a result backend would be a second store, with its own leaks.
        "task_ignore_result": True,
        # A slot that finishes looks into Postgres anyway; a hint more than that in hand helps nobody.
        # (worker_disable_prefetch starves a saturated threads pool: 0.7 s between looks.)
        "worker_prefetch_multiplier": 1,
        # A hint is data, never code: nothing but JSON is accepted from whoever can write to the broker.
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_queues": [Queue(QUEUE)],  # type: ignore[no-untyped-call]  # kombu has no types
        "task_default_queue": QUEUE,
        # A misspelt queue must fail, not collect hints that nobody reads.
        "task_create_missing_queues": False,
        # Flower's view of the runs. About 1 ms of CPU per run.
        "worker_send_task_events": settings.task_events,
        "broker_transport": "trellis_workers.broker:Transport",
        "worker_consumer": "trellis_workers.broker:Consumer",
        # The worker must outlive the broker: it executes runs from Postgres without it.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Run ids are no secrets, but our own logs tell of runs already.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "broker_transport_options": {
            "socket_timeout": _SOCKET_TIMEOUT,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 5,
            # redis-py's default of 100 raises under load; a consumer needs a handful.
            "max_connections": 20,
            "global_keyprefix": settings.redis_key_prefix,
        },
        **_tls(settings.redis_url),
    }


def _tls(url: str) -> dict[str, Any]:
    """Flower ignores the URL's ssl_cert_reqs and reads this setting instead."""
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return {}
    unverified = dict(parse_qsl(parts.query)).get("ssl_cert_reqs") == "none"
    return {"broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_NONE if unverified else ssl.CERT_REQUIRED}}


def __getattr__(name: str) -> Celery:
    """`celery -A trellis_workers` and Flower look for `app`; it is made when asked for, not at import."""
    if name != "app":
        raise AttributeError(name)
    app = new_app(load())
    globals()["app"] = app
    return app
