"""Our own stack as real processes: Postgres, Valkey, one web process and one worker process."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2

from benchmarks import children
from benchmarks.children import StartFailed, responds
from benchmarks.client import ANSWERS, INPUTS, body
from benchmarks.peer import cache_folder
from benchmarks.scenarios import Side
from trellis.dev import embedded
from trellis.dev.process import any_port

START_SECONDS = 60
PROBE = body("echo", input=INPUTS["echo"])


@contextmanager
def running(graphs: Path, *, slots: int) -> Iterator[Side]:
    """Serve the graphs on fresh servers until the block ends; then remove what they wrote."""
    began = time.perf_counter()
    with ExitStack() as stack:
        postgres, valkey = _stores(stack)
        port = any_port()
        env = _environ(
            {
                "DATABASE_URL": postgres.url,
                "REDIS_URL": valkey.url,
                "PORT": str(port),
                "TRELLIS_HOST": "127.0.0.1",
                "TRELLIS_CONFIG": str(graphs / "langgraph.json"),
                "N_JOBS_PER_WORKER": str(slots),
                "WEB_CONCURRENCY": "1",
            }
        )
        _migrate(env, graphs)
        web = stack.enter_context(children.running("web", _trellis("web"), env=env, folder=graphs))
        worker = stack.enter_context(
            children.running("worker", _trellis("worker"), env=env, folder=graphs)
        )
        url = f"http://127.0.0.1:{port}"
        children.wait_until(lambda: responds(f"{url}/ok"), web, worker, seconds=START_SECONDS)
        web_answers = web.age()
        children.wait_until(lambda: _answers(url), web, worker, seconds=START_SECONDS)
        yield Side(
            name="ours",
            url=url,
            roots={
                "web": [web.pid],
                "worker": [worker.pid],
                "postgres": [postgres.pid],
                "valkey": [valkey.pid],
            },
            database_url=postgres.url,
            start={
                "web answers /ok, s": web_answers,
                "first run answered, s": web.age(),
                "from an empty folder to there, s": time.perf_counter() - began,
            },
            about={"ours": f"1 web, 1 worker with {slots} slots; {_durability(postgres.url)}"},
        )


def _stores(stack: ExitStack) -> tuple[embedded.Server, embedded.Server]:
    # Not the system's folder for temporary files: that is often in memory, where fsync is free.
    cache_folder().mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="data-", dir=cache_folder()))
    stack.callback(shutil.rmtree, scratch, ignore_errors=True)
    started = []
    for start, name in (
        (embedded.start_postgres, "postgres"),
        (embedded.start_valkey, "valkey"),
    ):
        server = start(scratch / name)
        stack.callback(shutil.rmtree, server.folder, ignore_errors=True)
        stack.callback(server.stop)
        started.append(server)
    return started[0], started[1]


def _environ(ours: Mapping[str, str]) -> dict[str, str]:
    """Pass on where things are and how Trellis is tuned, and nothing else of this shell."""
    keep = ("HOME", "PATH", "LANG", "LC_ALL", "TMPDIR")
    tuned = {name: value for name, value in os.environ.items() if name.startswith("TRELLIS_")}
    return {name: os.environ[name] for name in keep if name in os.environ} | tuned | dict(ours)


def _trellis(command: str) -> list[str]:
    return [sys.executable, "-m", "trellis.cli", command]


def _migrate(env: Mapping[str, str], folder: Path) -> None:
    done = subprocess.run(
        _trellis("migrate"), env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StartFailed(f"trellis migrate failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _answers(url: str) -> bool:
    return responds(f"{url}/runs/wait", data=PROBE, expect=ANSWERS["echo"])


def _durability(database_url: str) -> str:
    names = ("server_version", "fsync", "synchronous_commit", "full_page_writes")
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", (list(names),)
        )
        found = dict(cursor.fetchall())
    version, *switches = names
    return f"Postgres {found[version]} ({', '.join(f'{n}={found[n]}' for n in switches)})"
