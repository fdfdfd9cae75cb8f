"""Tell the workers at once that the end of a run was asked for. Postgres has said so before, and decides.

    key                 kind       who                       what
    {prefix}signals     channel    web and sweeps publish,   the id of a run to look at, as text
                                   every worker listens

A signal is a hint, as an announcement is: a worker that misses it sees the wish with its next heartbeat. One channel
for the installation, because a cancel is rare, and a worker knows by the id whether it is meant.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

import redis
from redis.client import PubSub

from trellis.dispatch.announce import connect
from trellis.processes import VitalThread
from trellis.telemetry import SIGNAL_FAILED, log

_CHANNEL = "signals"
#: After a failure, how long further signals are skipped: heartbeats do their work meanwhile.
_BREAK_SECONDS = 1.0
#: How long a listener waits for a message before it looks whether it is to stop.
_POLL_SECONDS = 0.2


def channel(prefix: str) -> str:
    """The channel of an installation."""
    return prefix + _CHANNEL


class Signals:
    """Sends signals; skips them for a moment after Redis failed."""

    def __init__(self, client: redis.Redis, *, key_prefix: str = "") -> None:
        self._client = client
        self._channel = channel(key_prefix)
        self._closed_until = 0.0

    def __call__(self, run_ids: Sequence[str]) -> bool:
        """Have workers look at runs. False means that nobody was told: they find out by themselves."""
        if not run_ids or time.monotonic() < self._closed_until:
            return False
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for run_id in run_ids:
                    pipe.publish(self._channel, run_id)
                pipe.execute()
        except redis.RedisError as error:
            self._closed_until = time.monotonic() + _BREAK_SECONDS
            log().warning(SIGNAL_FAILED, runs=len(run_ids), error=str(error))
            return False
        return True


class Listener:
    """One thread that listens for signals, and connects again until it is closed. `heard` runs in that thread."""

    def __init__(self, url: str, *, key_prefix: str, heard: Callable[[str], None]) -> None:
        self._client = connect(url, max_connections=2)
        self._channel = channel(key_prefix)
        self._heard = heard
        self._stop = threading.Event()
        self.is_listening = threading.Event()
        self._thread = VitalThread(self._main, name="signals")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self._client.close()

    def _main(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]  # redis has no type for it
                    pubsub.subscribe(self._channel)
                    self._listen(pubsub)
            except (redis.RedisError, OSError) as error:
                failures = 0 if self.is_listening.is_set() else failures + 1
                if not failures:
                    log().warning(SIGNAL_FAILED, error=str(error))
            self.is_listening.clear()
            self._stop.wait(min(2.0, 0.1 * 2**failures) * random.uniform(0.5, 1))

    def _listen(self, pubsub: PubSub) -> None:
        while not self._stop.is_set():
            message = pubsub.get_message(timeout=_POLL_SECONDS)
            if message is None:
                continue
            if message["type"] == "subscribe":
                self.is_listening.set()
            elif message["type"] == "message":
                self._heard(message["data"].decode("ascii", "replace"))
