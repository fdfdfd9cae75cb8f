"""Runs whose worker process is killed at a commit of one's choice, and what is there afterwards."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from acceptance.course import Course
from acceptance.system import System
from trellis.db import runs
from trellis.db.engine import new_engine

VICTIM = Path(__file__).with_name("victim.py")
FAILED = 255


@dataclass
class Workers:
    """Worker processes that execute one run each, and may die of it."""

    system: System
    questions: IO[str]
    answers: IO[str]

    def attempt(self, run_id: str, graph_id: str, *, fatal: int = 0) -> int:
        """Execute a run; with `fatal`, the process dies before that commit. Returns the commits, 0 if it died."""
        print(run_id, graph_id, fatal, file=self.questions, flush=True)
        commits = int(self.answers.readline())
        assert commits != FAILED, "the worker process failed"
        return commits

    def rescue(self, run_id: str, thread_id: str) -> None:
        """Bring back a run that lost its worker, as a sweep does once its lease has run out."""
        self.system.end_leases()
        engine = new_engine(self.system.database_url, pool_size=1)
        with engine.begin() as tx:
            assert runs.rescue(tx, run_id, thread_id, backoff_seconds=0) == "pending"
        engine.dispose()


@contextmanager
def workers(system: System) -> Iterator[Workers]:
    reading, writing = os.pipe()
    with (
        (system.logs / "victims.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-P", VICTIM, str(writing)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            env=system.environment(),
            text=True,
        ) as process,
        os.fdopen(reading) as answers,
    ):
        os.close(writing)
        assert process.stdin is not None
        yield Workers(system, process.stdin, answers)


@dataclass
class Case:
    """A thread, and what is done on it."""

    workers: Workers
    graph: str
    course: Course
    thread_id: str = field(default="")
    run_id: str = field(default="")
    origin: str | None = None  #: the checkpoint that the run was told to start from

    def __post_init__(self) -> None:
        self.thread_id = self.workers.system.new_thread()

    def create(self, **body: Any) -> None:
        """Create a run; nobody executes it yet."""
        self.origin = body.get("checkpoint_id")
        path = f"/threads/{self.thread_id}/runs"
        found = self.workers.system.post(path, {"assistant_id": self.graph, **body})
        self.run_id = found["run_id"]

    def attempt(self, *, fatal: int = 0) -> int:
        return self.workers.attempt(self.run_id, self.graph, fatal=fatal)

    def run(self, **body: Any) -> None:
        """Create a run and execute it."""
        self.create(**body)
        assert self.attempt()

    def rescue(self) -> None:
        self.workers.rescue(self.run_id, self.thread_id)

    def state(self) -> Any:
        return self.workers.system.get(f"/threads/{self.thread_id}/state?subgraphs=true")

    def history(self) -> Any:
        return self.workers.system.get(f"/threads/{self.thread_id}/history?limit=100")

    def result(self) -> tuple[Any, ...]:
        """What a client sees of the run and of its thread."""
        system = self.workers.system
        run = system.get(f"/threads/{self.thread_id}/runs/{self.run_id}")
        thread = system.get(f"/threads/{self.thread_id}")
        state = self.state()
        asked = _asked(state)
        return (
            run["status"],
            thread["status"],
            state["values"].get("log"),
            asked,
            state["next"],
            self.left(),
        )

    def left(self) -> Any:
        """The questions where a fork began: there they stay while no node has gone on from them."""
        if self.origin is None:
            return None
        return _asked(
            self.workers.system.get(f"/threads/{self.thread_id}/state/{self.origin}?subgraphs=true")
        )

    def finished(self) -> set[str]:
        """The nodes that the run has finished and need not run again."""
        head = self.state()
        own = [it for it in self.history() if it["metadata"].get("run_id") == self.run_id]
        found = {
            task["name"]
            for state in (head, *own)
            for task in state["tasks"]
            if task["result"] is not None
        }
        if self.graph.startswith("stateful"):
            # What such a child has in its log is also what it was given, and what earlier turns did.
            return found
        below = [task["state"]["values"].get("log", ()) for task in head["tasks"] if task["state"]]
        return found.union(*below)


def _asked(state: Any) -> list[str]:
    return sorted(question["value"] for question in state["interrupts"])
