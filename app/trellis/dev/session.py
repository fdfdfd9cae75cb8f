"""The life of one `trellis dev`: databases, schema, web, worker, reload, and the way back down."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from trellis.dev import instance, reload
from trellis.dev.banner import banner
from trellis.dev.children import Child, Say
from trellis.dev.embedded import Server, launch_postgres, launch_valkey
from trellis.dev.process import free_port
from trellis.errors import ConfigError
from trellis.graphs.manifest import Manifest
from trellis.processes import describe_exit
from trellis.settings import LOOPBACK

#: Below it, so that Ctrl-C and a reload wait less for runs than a deployment does.
_DRAIN_SECONDS = "5"

_WEB_GRACE_SECONDS = 6.0
_WORKER_GRACE_SECONDS = 12.0

#: A database that dies more often than this in a session will not get better by itself.
_MAX_SERVER_DEATHS = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one `trellis dev` is asked to run. A given database_url or redis_url is used, not started."""

    manifest: Manifest
    host: str
    port: int
    data_dir: Path
    reload: bool
    slots: int | None
    database_url: str | None
    redis_url: str | None


class _Stopped(BaseException):
    """A signal came before everything was up."""


def run(plan: Plan, *, say: Say) -> int:
    """
    Serve until a signal, then stop everything. Returns the exit code.

    :raises ConfigError: it cannot start; whatever had started is stopped.
    """
    return _Session(plan, say=say).run()


class _Session:
    """Everything that one `trellis dev` started."""

    def __init__(self, plan: Plan, *, say: Say) -> None:
        self._plan = plan
        self._say = say
        self._signals = 0
        self._interruptible = False
        self._servers: dict[str, Server] = {}
        self._server_deaths = 0
        self._urls = {
            "DATABASE_URL": plan.database_url or "",
            "REDIS_URL": plan.redis_url or "",
        }
        self._changes: queue.SimpleQueue[list[Path]] = queue.SimpleQueue()
        self._port = plan.port
        self._announced: str | None = None
        self._web = self._child("web", grace=_WEB_GRACE_SECONDS, overlaps=False)
        self._worker = self._child("worker", grace=_WORKER_GRACE_SECONDS, overlaps=True)

    def run(self) -> int:
        with self._signals_counted():
            try:
                self._start()
                return self._serve()
            except _Stopped:
                return 0
            finally:
                self._stop()

    @contextlib.contextmanager
    def _signals_counted(self) -> Iterator[None]:
        def count(_signum: int, _frame: FrameType | None) -> None:
            self._signals += 1
            if self._interruptible:
                self._interruptible = False
                raise _Stopped

        names = [signal.SIGINT, signal.SIGTERM]
        # Under nohup the closing of the terminal is to be survived.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            names.append(signal.SIGHUP)
        before = {name: signal.signal(name, count) for name in names}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """Let a signal end what is waited for. Elsewhere a process just made would not be known yet."""
        if self._signals:
            raise _Stopped
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def _start(self) -> None:
        # Importing Alembic takes as long as making a database: do both at once.
        importing = threading.Thread(
            target=importlib.import_module, args=("trellis.db.migrate",), daemon=True
        )
        importing.start()
        self._launch_servers()
        # It connects to nothing while it imports, which takes longer than making the schema.
        self._web.start()
        with self._waiting():
            for server in self._servers.values():
                server.wait_ready()
            importing.join()
            _migrate(self._urls["DATABASE_URL"])
        self._worker.start()
        self._watch()

    def _launch_servers(self) -> None:
        folder = self._plan.data_dir
        if not self._urls["REDIS_URL"]:
            self._servers["valkey"] = launch_valkey(folder / "valkey")
            self._urls["REDIS_URL"] = self._servers["valkey"].url
        if not self._urls["DATABASE_URL"]:
            self._servers["postgres"] = launch_postgres(folder / "postgres")
            self._urls["DATABASE_URL"] = self._servers["postgres"].url
            self._explain_place(folder / "postgres")

    def _explain_place(self, asked: Path) -> None:
        actual = self._servers["postgres"].folder
        if actual != asked:
            self._say(
                f"Postgres does not run as root, and its stand-in cannot enter {asked}: "
                f"its data is in {actual}."
            )

    def _watch(self) -> None:
        if not self._plan.reload:
            return
        if not reload.is_available():
            self._say("Reload is off: watchfiles is not installed.")
            return
        manifest = self._plan.manifest
        folders = [manifest.root / path for path in manifest.dependencies]
        reload.watch_project(
            manifest.path, [path for path in folders if path.is_dir()], changed=self._changes.put
        )

    @property
    def _reloads(self) -> bool:
        return self._plan.reload and reload.is_available()

    def _serve(self) -> int:
        while not self._signals:
            self._tend_servers()
            for child in (self._web, self._worker):
                child.tend()
                if child.gave_up and not self._reloads:
                    return 1
            self._announce()
            self._reload()
        return 0

    def _tend_servers(self) -> None:
        for name, server in self._servers.items():
            code = server.process.poll()
            if code is None:
                continue
            self._server_deaths += 1
            if self._server_deaths > _MAX_SERVER_DEATHS:
                raise ConfigError(f"{server.name} keeps ending. Its log is {server.log}.")
            self._say(f"{server.name} {describe_exit(code)}. Starting it again.")
            server.stop()
            launch: Callable[..., Server] = {"postgres": launch_postgres, "valkey": launch_valkey}[
                name
            ]
            # The same port, where the running web and worker look for it.
            self._servers[name] = launch(self._plan.data_dir / name, port=server.port)
            self._servers[name].wait_ready()

    def _announce(self) -> None:
        url = f"http://{_reachable(self._plan.host)}:{self._port}"
        # An answer alone might be another server's, which took the port before our web could.
        if self._announced == url or not self._web.ready.is_set() or not _answers(url):
            return
        self._announced = url
        plan = self._plan
        instance.publish(
            plan.data_dir,
            instance.Instance(
                url=url,
                pid=os.getpid(),
                config=str(plan.manifest.path),
                database_url=self._urls["DATABASE_URL"],
                redis_url=self._urls["REDIS_URL"],
            ),
        )
        text = banner(
            url=url,
            graph_ids=list(plan.manifest.graphs),
            data_dir=str(plan.data_dir),
            reload=self._reloads,
        )
        sys.stdout.write(f"\n{text}\n")
        sys.stdout.flush()

    def _reload(self) -> None:
        wait_seconds = 0.2 if self._announced else 0.02
        try:
            changed = self._changes.get(timeout=wait_seconds)
        except queue.Empty:
            return
        names = ", ".join(sorted({path.name for path in changed})[:3])
        self._say(f"{names} changed: restarting worker and web.")
        self._worker.restart()
        self._web.restart()

    def _child(self, name: str, *, grace: float, overlaps: bool) -> Child:
        return Child(
            name,
            # -P keeps the user's folder off sys.path[0], where a redis.py of theirs would be ours.
            [sys.executable, "-P", "-m", "trellis.cli", name],
            environment=self._web_environment if name == "web" else self._environment,
            folder=self._plan.manifest.root,
            grace_seconds=grace,
            overlaps=overlaps,
            ready_text="listens on" if name == "web" else "worker.ready",
            say=self._say,
        )

    def _environment(self) -> dict[str, str]:
        plan = self._plan
        ours = {
            **self._urls,
            "TRELLIS_CONFIG": str(plan.manifest.path),
            "TRELLIS_HOST": plan.host,
            "PYTHONUNBUFFERED": "1",
        }
        if plan.slots is not None:
            ours["N_JOBS_PER_WORKER"] = str(plan.slots)
        if plan.host in LOOPBACK:
            # Nobody but this machine's users can say that they are Studio.
            ours["TRELLIS_STUDIO_AUTH"] = os.environ.get("TRELLIS_STUDIO_AUTH", "1")
        environment = {"TRELLIS_DRAIN_SECONDS": _DRAIN_SECONDS, **os.environ, **ours}
        if plan.database_url is None:
            # Emptying it is for the database that this command brought, never for one that it was given.
            environment["TRELLIS_DEV"] = "1"
        # The web's port; the worker has no use for the one this command may have been given.
        environment.pop("PORT", None)
        return environment

    def _web_environment(self) -> dict[str, str]:
        free = free_port(self._plan.host, self._port)
        if free is None:
            raise ConfigError(f"No free port from {self._port} on. Choose one with --port.")
        if free != self._port:
            self._say(f"Port {self._port} is taken; using {free}.")
            self._port = free
        return {**self._environment(), "PORT": str(self._port)}

    def _stop(self) -> None:
        instance.withdraw(self._plan.data_dir)
        at_first = self._signals
        if self._web.is_alive() or self._worker.is_alive():
            self._say("Stopping. Ctrl-C again ends it at once.")
        for child in (self._web, self._worker):
            child.stop(hurry=lambda: self._signals > at_first)
        for server in reversed(list(self._servers.values())):
            server.stop()


def _migrate(url: str) -> None:
    from sqlalchemy.exc import DBAPIError

    from trellis.db.migrate import migrate

    try:
        migrate(url)
    except DBAPIError as error:
        raise ConfigError(f"The database could not be brought up to date: {error.orig}") from error


def _reachable(host: str) -> str:
    """The name under which a browser here reaches a server that listens on every address."""
    named = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)
    return f"[{named}]" if ":" in named and not named.startswith("[") else named


def _answers(url: str) -> bool:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=1)
    try:
        connection.request("GET", "/ok")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
