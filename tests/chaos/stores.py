"""A Redis and a Postgres of one's own, and what can happen to them while others use them."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import redis

from chaos.proxy import Proxy
from trellis.db.migrate import migrate
from trellis.dev.embedded import Server, start_postgres, start_valkey


class Redis:
    """A Redis that is reached through a proxy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = start_valkey(folder)
        self._proxy = Proxy(self._server.port)

    @property
    def url(self) -> str:
        parts = urlsplit(self._server.url)
        return urlunsplit(parts._replace(netloc=f":{parts.password}@127.0.0.1:{self._proxy.port}"))

    def close(self) -> None:
        self._server.stop()
        self._proxy.close()

    @contextmanager
    def restarted(self) -> Iterator[None]:
        """It is killed and comes back empty."""
        _stop(self._server, signal.SIGKILL)
        try:
            yield
        finally:
            shutil.rmtree(self._folder / "appendonlydir")
            self._server = start_valkey(self._folder, port=self._server.port)

    @contextmanager
    def flushed(self) -> Iterator[None]:
        """It forgets everything."""
        self._do("FLUSHALL")
        yield

    @contextmanager
    def swallowed(self) -> Iterator[None]:
        """Everybody stays connected to it, and nobody hears from it."""
        self._proxy.swallow()
        try:
            yield
        finally:
            self._proxy.pass_on()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections and does not answer."""
        os.kill(self._server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._server.pid, signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """It refuses whatever needs memory."""
        self._do("CONFIG", "SET", "maxmemory", "1")
        try:
            yield
        finally:
            self._do("CONFIG", "SET", "maxmemory", "0")

    def _do(self, *command: str) -> None:
        with redis.Redis.from_url(self._server.url) as client:
            client.execute_command(*command)


class Postgres:
    """A migrated Postgres."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = start_postgres(folder, durable=False)
        migrate(self.url)

    @property
    def url(self) -> str:
        return self._server.url

    def close(self) -> None:
        self._server.stop()

    @contextmanager
    def down(self) -> Iterator[None]:
        """It stops at once, without a checkpoint, in the middle of whatever it does; then it recovers."""
        _stop(self._server, signal.SIGQUIT)
        try:
            yield
        finally:
            self._server = start_postgres(self._folder, port=self._server.port, durable=False)


def _stop(server: Server, sign: signal.Signals) -> None:
    server.process.send_signal(sign)
    server.process.wait(20)
    server.lock.release()
