"""Executes runs in worker processes that kill themselves right before a commit of theirs.

Started once: it imports everything, then forks a process for each attempt that it is told of on its standard input,
as `run_id graph_id commit` (0: do not die; -1: before the commit of the end), and answers on the given file descriptor with the number of commits, or
with 0 if the process was killed.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from typing import IO, Any

from sqlalchemy import Connection, Engine, event

from trellis.graphs.manifest import load as load_manifest
from trellis.graphs.registry import Registry
from trellis.settings import Settings, load
from trellis.telemetry import configure
from trellis_workers.executor import Executor
from trellis_workers.host import build, close

AT_THE_END = -1


def attempt(settings: Settings, run_id: str, graph_id: str, *, fatal: int) -> int:
    """Execute a run as a worker does."""
    commits, ends = 0, False

    def before_execute(_: Connection, __: Any, statement: str, *___: Any) -> None:
        nonlocal ends
        ends |= statement.startswith("EXECUTE runs_finish ")

    def before_commit(_: Connection) -> None:
        nonlocal commits
        if threading.current_thread().name != "database":
            return
        commits += 1
        if commits == fatal or (ends and fatal == AT_THE_END):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", before_execute)
    event.listen(Engine, "commit", before_commit)
    host = build(settings, owner=f"victim:{os.getpid()}")
    host.wait(Executor(host, worn=lambda: None).execute(run_id, graph_id))
    close(host)
    return commits


def attempt_apart(settings: Settings, line: str) -> int:
    """In a process of its own. Returns how many commits it made, or 0 if it was killed."""
    run_id, graph_id, fatal = line.split()
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        return 0 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    commits = 0
    try:
        commits = attempt(settings, run_id, graph_id, fatal=int(fatal))
    finally:
        sys.stdout.flush()
        os._exit(commits or 255)


def main(answers: IO[str]) -> None:
    settings = load()
    configure(settings)
    Registry(load_manifest(settings.config_path)).load_all()
    # A collection in a child would copy every page of what it shares with us.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(attempt_apart(settings, line), file=answers, flush=True)


if __name__ == "__main__":
    main(os.fdopen(int(sys.argv[1]), "w"))
