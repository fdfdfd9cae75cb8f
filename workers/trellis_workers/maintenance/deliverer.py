"""Deliver the webhook outbox: several at a time, in threads of its own, so that no slow receiver holds up a chore."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from trellis.db import webhooks as outbox
from trellis.db.webhooks import Delivery
from trellis.domain.users import shown_kwargs
from trellis.domain.webhooks import Webhooks
from trellis.processes import VitalThread
from trellis.stream import encoder
from trellis.telemetry import WEBHOOK_DELIVERED, WEBHOOK_FAILED, log
from trellis_workers.webhooks import TOTAL_SECONDS, Refused, send

#: How often to look for what other processes left: retries that are due, and ends that no worker saw.
_LOOK_SECONDS = 1.0
#: A delivery that has not been reported by then is due again: its process died, or was frozen.
_DEADLINE_SECONDS = 2 * TOTAL_SECONDS
_AT_ONCE = 8
#: The first pause is about a second, each one twice the last, none longer than a day: three and a half days.
_LONGEST_PAUSE_SECONDS = 86_400.0
_ATTEMPTS = 20


def pause_seconds(attempt: int) -> float | None:
    """How long to wait after a failed attempt. None: that was the last."""
    if attempt >= _ATTEMPTS:
        return None
    return min(2.0 ** (attempt - 1), _LONGEST_PAUSE_SECONDS) * random.uniform(0.75, 1.25)


class Deliverer:
    """Delivers until closed. `wake` says that something was put into the outbox just now."""

    def __init__(
        self,
        engine: Engine,
        webhooks: Webhooks,
        *,
        pause: Callable[[int], float | None] = pause_seconds,
    ) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._webhooks = webhooks
        self._pause = pause
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook")
        self._free = threading.Semaphore(_AT_ONCE)
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread = VitalThread(self._main, name="webhooks")
        self._thread.start()

    def wake(self) -> None:
        """Look now. From any thread."""
        self._awake.set()

    def close(self) -> None:
        """Take nothing more. What is under way and not reported in time is delivered again by another process."""
        self._closing.set()
        self._awake.set()
        self._thread.join(timeout=5)
        self._pool.shutdown(wait=False)

    def _main(self) -> None:
        while not self._webhooks.disabled and not self._closing.is_set():
            self._awake.wait(_LOOK_SECONDS * random.uniform(0.75, 1.25))
            self._awake.clear()
            try:
                while not self._closing.is_set() and self._take():
                    pass
            except Exception as error:
                log().warning(WEBHOOK_FAILED, error=str(error).split("\n")[0])

    def _take(self) -> bool:
        """Take one that is due, when there is a thread for it. One by one: what waits here, others could deliver."""
        if not self._free.acquire(timeout=0.5):
            return True
        try:
            with self._engine.begin() as tx:
                found = outbox.take(tx, limit=1, deadline_seconds=_DEADLINE_SECONDS)
        except BaseException:
            self._free.release()
            raise
        for delivery in found:
            self._pool.submit(self._deliver, delivery)
        if not found:
            self._free.release()
        return bool(found)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            self._attempt(delivery)
        except Exception as error:
            # Without the database it cannot be noted; the deadline makes it due again.
            with suppress(SQLAlchemyError):
                self._failed(delivery, error)
        finally:
            self._free.release()

    def _attempt(self, delivery: Delivery) -> None:
        delivery = outbox.opened(self._engine, delivery)
        values = self._values(delivery)
        send(
            self._webhooks,
            url=delivery.url,
            run_id=delivery.run_id,
            body=body(delivery, values, fields=self._webhooks.fields),
            at=delivery.now.timestamp(),
        )
        with self._engine.begin() as tx:
            outbox.delivered(tx, delivery)
        log().info(WEBHOOK_DELIVERED, run_id=delivery.run_id, attempt=delivery.attempt)

    def _values(self, delivery: Delivery) -> Any:
        if self._webhooks.fields is not None and "values" not in self._webhooks.fields:
            return None
        # No transaction to keep open: the operator's own checkpointer may take its time.
        with self._autocommit.connect() as tx:
            return outbox.final_values(tx, delivery.payload)

    def _failed(self, delivery: Delivery, error: Exception) -> None:
        pause = self._pause(delivery.attempt)
        if isinstance(error, Refused) and pause is not None:
            asked = min(error.pause_seconds, _LONGEST_PAUSE_SECONDS)
            pause = None if error.is_final else max(pause, asked)
        reason = f"{type(error).__name__}: {error}"[:1000].replace("\0", "\ufffd")
        log().warning(
            WEBHOOK_FAILED, run_id=delivery.run_id, attempt=delivery.attempt, error=reason
        )
        with self._engine.begin() as tx:
            outbox.failed(tx, delivery, error=reason, pause_seconds=pause)


def body(delivery: Delivery, values: Any, *, fields: Container[str] | None) -> bytes:
    """What the receiver gets: the run, when it ran, its values, and its error if it has one; None: all of that."""
    told = {**delivery.payload, "kwargs": shown_kwargs(delivery.payload["kwargs"])}
    error = told.pop("error", None)
    told["webhook_sent_at"] = delivery.now.astimezone(UTC).isoformat(timespec="microseconds")
    told["values"] = values
    if error is not None:
        told["error"] = error
    return encoder.dumps(
        {name: value for name, value in told.items() if fields is None or name in fields}
    )
