"""What a run can be and become, who holds it, and how an attempt at it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple


class RunStatus(StrEnum):
    PENDING = "pending"  #: accepted, waiting for its turn or its time
    RUNNING = "running"  #: a worker holds its lease
    SUCCESS = "success"  #: the graph ended, or paused for a human
    ERROR = "error"  #: the graph raised, or the run was given up
    TIMEOUT = "timeout"  #: its deadline passed
    INTERRUPTED = "interrupted"  #: cancelled, or superseded by another run


class Ward(StrEnum):
    """Beside whom a run may be executed. A process belongs to one ward, and takes the runs of no other."""

    OPEN = "open"  #: beside any other run of this ward
    SHARED = (
        "shared"  #: its process died, and it may have been why: beside others of which that is true
    )
    ALONE = "alone"  #: another death would use up its budget


class ThreadStatus(StrEnum):
    IDLE = "idle"  #: nothing runs, nothing waits
    BUSY = "busy"  #: a run is pending or running
    INTERRUPTED = "interrupted"  #: the graph has next nodes and waits for a human
    ERROR = "error"  #: the last run failed


#: Which status may follow which. The same rule stands in the claim, finish, release and sweep
#: statements and, for the terminal ones, in a trigger, which a test holds to these.
TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.INTERRUPTED}),
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.PENDING,
            RunStatus.SUCCESS,
            RunStatus.ERROR,
            RunStatus.TIMEOUT,
            RunStatus.INTERRUPTED,
        }
    ),
    RunStatus.SUCCESS: frozenset(),
    RunStatus.ERROR: frozenset(),
    RunStatus.TIMEOUT: frozenset(),
    RunStatus.INTERRUPTED: frozenset(),
}

ACTIVE = frozenset({RunStatus.PENDING, RunStatus.RUNNING})
TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The right to execute one attempt at a run: every durable write shows its fence."""

    run_id: str
    thread_id: str
    fence: int  #: the thread's generation; a newer claim has a higher one
    attempt: int  #: from 1; told to the client in the stream's metadata event


class Ended(NamedTuple):
    """A run whose end no worker tells of: whoever follows it, or its thread, is to hear of it."""

    tenant_id: str
    thread_id: str
    run_id: str
    graph_id: str
    fence: int  #: such an end is counted as a claim is
    status: RunStatus | None = RunStatus.INTERRUPTED  #: None: it was deleted


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How an attempt ended: what becomes of the run, and of its thread."""

    status: RunStatus
    thread_status: ThreadStatus | None = ThreadStatus.IDLE  #: None: what it was before the run
    error: Mapping[str, str] | None = None  #: {"error": class name, "message": text}
    interrupts: Mapping[str, Any] | None = None  #: {task_id: [interrupt, …]}
    keeps_thread: bool = (
        False  #: the run was refused before its first step: its thread stays as it was
    )
    traceback: str | None = None  #: for operators, never for clients


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """How long a claim holds without renewal. All times are compared on the database's clock only."""

    duration: timedelta = timedelta(seconds=15)
    renew_every: timedelta = timedelta(seconds=5)
    #: A worker that could not renew stops the graph this long before its lease ends.
    margin: timedelta = timedelta(seconds=3)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """What decides whether a stream is over: the run as Postgres has it."""

    status: RunStatus
    fence: int | None
    error: Mapping[str, str] | None = None

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL
