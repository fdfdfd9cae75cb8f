"""A whole Trellis as real processes: web and workers on a database and a Redis of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import orjson
import psycopg2

from trellis.dev.process import any_port, kill_session, poll_until, spawn, wait_for_exit

GRAPHS = Path(__file__).with_name("graphs") / "langgraph.json"
#: Few graphs, for tests that start many workers: each tells what all of its graphs look like.
FAULTS = {"TRELLIS_CONFIG": str(GRAPHS.with_name("faults.json"))}

READY_SECONDS = 60.0
#: After this, a client that still waits counts as hung.
ANSWER_SECONDS = 40.0
STOP_SECONDS = 20.0

#: What the shell that runs the tests may say of these must not reach the processes.
FOREIGN = re.compile(
    "TRELLIS_|LANGSMITH_|LANGCHAIN_|LANGGRAPH_|(DATABASE|POSTGRES|REDIS)_|(PORT|LOG_LEVEL|LOG_JSON|PYTHONPATH|"
    "N_JOBS_PER_WORKER|WEB_CONCURRENCY|BG_JOB_TIMEOUT_SECS|RESUMABLE_STREAM_TTL_SECONDS|"
    "HTTP_MAX_REQUEST_BODY_BYTES|CORS_ALLOW_ORIGINS|MOUNT_PREFIX|LOG_COLOR|BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS)$"
)


@dataclass
class Process:
    """A process that was started, and what it printed."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def wait_until(self, condition: Callable[[], bool], *, what: str) -> None:
        """Return when it holds; fail with the process's last words if that takes too long."""
        poll_until(lambda: condition() or not self.is_alive(), seconds=READY_SECONDS, every=0.03)
        assert condition(), f"{self.name}: not {what}. It said:\n{self.said()[-8000:]}"

    def wait_until_says(self, text: str) -> None:
        self.wait_until(lambda: text in self.said(), what=f"said {text!r}")

    def terminate(self) -> None:
        self.popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9, with everything that it started."""
        kill_session(self.popen)

    def ends(self, *, seconds: float = STOP_SECONDS) -> int:
        """Its exit code; it is killed if it does not end in time."""
        if wait_for_exit(self.popen, seconds):
            return self.popen.returncode
        self.kill()
        raise AssertionError(
            f"{self.name} did not end in {seconds} s. It said:\n{self.said()[-8000:]}"
        )

    def stop(self) -> None:
        """SIGTERM, and nothing but a clean end will do."""
        self.terminate()
        code = self.ends()
        assert code == 0, f"{self.name} ended with {code}. It said:\n{self.said()[-8000:]}"


@dataclass
class System:
    """The processes that share a database and a Redis."""

    database_url: str
    redis_url: str
    logs: Path
    env: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=any_port)
    prefix: str = ""
    processes: list[Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, command: str, *, python: tuple[str, ...] = (), **env: str) -> Process:
        """Start `trellis <command>`, which ends with this process, and do not wait for it."""
        name = f"{command}-{len(self.processes)}"
        log = self.logs / f"{name}.log"
        argv = [sys.executable, "-P", *python, "-m", "trellis.cli", command]
        with log.open("wb") as output:
            popen = spawn(
                argv,
                dies_with=signal.SIGKILL,
                output=output,
                environment=self.environment() | env,
                folder=self.logs,
            )
        self.processes.append(Process(name, popen, log))
        return self.processes[-1]

    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not FOREIGN.match(name)},
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "PORT": str(self.port),
            "TRELLIS_HOST": "127.0.0.1",
            "TRELLIS_CONFIG": str(GRAPHS),
            "PYTHONUNBUFFERED": "1",
            **self.env,
        }

    def start_web(self, **env: str) -> Process:
        web = self.start("web", **env)
        # By its own word: what answers on the port may be another test's, whose port was free as well.
        web.wait_until_says("Trellis listens on")
        web.wait_until(self.is_up, what="answering")
        return web

    def start_worker(self, **env: str) -> Process:
        worker = self.start("worker", **env)
        worker.wait_until_says("worker.ready")
        return worker

    def is_up(self) -> bool:
        try:
            return self.request("GET", f"{self.prefix}/ok").status == 200
        except OSError:
            return False

    def stop(self) -> None:
        """Stop what still runs, all at once; every process must end by itself, with 0."""
        running = [process for process in self.processes if process.is_alive()]
        for process in running:
            process.terminate()
        codes = {process.name: process.ends() for process in running}
        assert all(code == 0 for code in codes.values()), f"{codes}\n{self.said()}"

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def said(self) -> str:
        """The end of every process's log."""
        return "\n".join(f"--- {each.name}\n{each.said()[-8000:]}" for each in self.processes)

    # Plain HTTP, where the bytes matter

    @contextmanager
    def open(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """Send a request, and lend the response with its body unread; bytes go as they are."""
        data = body if isinstance(body, bytes | None) else orjson.dumps(body)
        headers = {"Content-Type": "application/json", **(headers or {})}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)) as connection:
            connection.request(method, path, data, headers)
            yield connection.getresponse()

    def request(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> "Answer":
        """Send a request and read the whole answer."""
        with self.open(method, path, body, headers=headers) as response:
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, _read(response))

    def post(self, path: str, body: Any) -> Any:
        """The JSON of a POST that must succeed."""
        answer = self.request("POST", path, body)
        assert answer.status == 200, answer
        return answer.json()

    def get(self, path: str) -> Any:
        """The JSON of a GET that must succeed."""
        answer = self.request("GET", path)
        assert answer.status == 200, answer
        return answer.json()

    def new_thread(self) -> str:
        thread_id: str = self.post("/threads", {})["thread_id"]
        return thread_id

    def rows(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """What Postgres has."""
        with closing(psycopg2.connect(self.database_url)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement, params)
            return cursor.fetchall()

    def change(self, statement: str, *params: Any) -> int:
        """Change what Postgres has. Returns how many rows."""
        with closing(psycopg2.connect(self.database_url)) as connection, connection:
            cursor = connection.cursor()
            cursor.execute(statement, params)
            return cursor.rowcount

    def end_leases(self) -> None:
        """End every lease now. For workers that are dead: nobody waits until theirs have run out."""
        self.change("UPDATE run SET lease_expires_at = clock_timestamp() WHERE status = 'running'")


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


def _read(response: HTTPResponse) -> bytes:
    """The whole body. Heartbeats keep a connection from timing out, so the time is limited here."""
    end = time.monotonic() + ANSWER_SECONDS
    body = b""
    while part := response.read1(1 << 20):
        body += part
        if time.monotonic() > end:
            raise TimeoutError(f"the answer takes longer than {ANSWER_SECONDS} s; so far {body!r}")
    return body


@contextmanager
def running(system: System) -> Iterator[System]:
    """Stop a system at the end, and show its logs if that fails."""
    try:
        yield system
        system.stop()
    finally:
        system.kill()


def wait_for(condition: Callable[[], Any], *, seconds: float = ANSWER_SECONDS, what: str) -> Any:
    """The first true value of a condition; fail when there is none in time."""
    found: list[Any] = []

    def look() -> bool:
        found[:] = [condition()]
        return bool(found[0])

    assert poll_until(look, seconds=seconds, every=0.05), f"waited {seconds} s in vain for {what}"
    return found[0]
