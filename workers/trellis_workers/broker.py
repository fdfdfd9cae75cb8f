"""Kombu's Redis transport and Celery's consumer, less what they do again for every message.

In a profile of one-step runs that was about 30 % of the worker's time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

from celery.events import EventDispatcher
from celery.worker import consumer
from kombu.transport import redis, virtual

#: Pauses between attempts to reach the broker, in seconds.
_RECONNECT = {"interval_start": 0.2, "interval_step": 0.4, "interval_max": 1.5}
#: How long task events may wait for company, in seconds. They are for people who watch.
_EVENTS_WAIT = 0.2
#: More of them than this are sent at once.
_EVENTS_KEPT = 2_000


class QoS(redis.QoS):
    """
    Remembers the messages in hand in memory only.

    Kombu writes each one to Redis and deletes it again, to be restored after a visibility timeout should the worker
    die. Our messages are hints: what dies with a worker is found in Postgres, and sooner.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        virtual.QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types

    def ack(self, delivery_tag: str) -> None:
        virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]  # likewise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self._put_back([self._delivered[delivery_tag]])
        self.ack(delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        """At shutdown: what was prefetched and not begun goes to another worker at once."""
        self._put_back(self._delivered.values())
        self._delivered.clear()

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Nothing is ever invisible."""

    def _put_back(self, messages: Iterable[Any]) -> None:
        with self.channel.conn_or_acquire() as client:
            for message in messages:
                where = message.delivery_info
                self.channel._do_restore_message(
                    message._raw, where["exchange"], where["routing_key"], client
                )


class Channel(redis.Channel):
    """Keeps one client: kombu builds a new redis-py object, a costly one, for every command."""

    QoS = QoS

    @cached_property
    def _kept(self) -> Any:
        return self._create_client()  # type: ignore[no-untyped-call]  # kombu has no types

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        yield client or self._kept


class Transport(redis.Transport):
    """The Redis transport with our channel."""

    Channel = Channel


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # celery has no types
    """Sends task events when they are due, however many there are; Celery sends at every 24th."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, buffer_limit=_EVENTS_KEPT)


class Consumer(consumer.Consumer):  # type: ignore[misc]  # celery has no types
    """Sends task events in batches instead of one publish for each turn of the loop."""

    _flush_due = False

    def ensure_connected(self, conn: Any) -> Any:
        """Look for a lost broker every second or two; Celery's pauses grow to half a minute."""
        patient = partial(conn.ensure_connection, **_RECONNECT)
        conn.ensure_connection = patient
        return super().ensure_connected(conn)

    def on_send_event_buffered(self) -> None:
        if self.hub and not self._flush_due:
            self._flush_due = True
            self.hub.call_later(_EVENTS_WAIT, self._flush_events)

    def _flush_events(self) -> None:
        self._flush_due = False
        super()._flush_events()
