"""Kombu's Redis transport and Celery's consumer, less what they do again for every message.

Both changes are measured (docs/performance.md): together about a fifth of a worker's CPU for a short run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from celery.worker import consumer
from kombu.transport import redis

#: How long task events may wait for company, in seconds. They are for people who watch.
_EVENTS_WAIT = 0.2


class Channel(redis.Channel):
    """Keeps one client: kombu builds a new redis-py object, a costly one, for every acknowledgement."""

    @cached_property
    def _kept(self) -> Any:
        return self._create_client()  # type: ignore[no-untyped-call]  # kombu has no types

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        yield client or self._kept


class Transport(redis.Transport):
    """The Redis transport with our channel."""

    Channel = Channel


class Consumer(consumer.Consumer):  # type: ignore[misc]  # celery has no types
    """Sends task events in batches instead of one publish for each turn of the loop."""

    _flush_due = False

    def on_send_event_buffered(self) -> None:
        if self.hub and not self._flush_due:
            self._flush_due = True
            self.hub.call_later(_EVENTS_WAIT, self._flush_events)

    def _flush_events(self) -> None:
        self._flush_due = False
        super()._flush_events()
