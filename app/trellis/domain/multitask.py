"""What becomes of a thread's runs when one more comes, or when somebody asks for an end."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from trellis.domain.runs import Outcome, RunStatus, ThreadStatus
from trellis.errors import Conflict


class Strategy(StrEnum):
    REJECT = "reject"  #: the new run is refused while another is not over
    ENQUEUE = "enqueue"  #: the new run waits for its turn
    INTERRUPT = "interrupt"  #: the others end where they are
    ROLLBACK = "rollback"  #: the others are undone


class Action(StrEnum):
    """How a run is asked to end."""

    INTERRUPT = "interrupt"  #: keep what it did
    ROLLBACK = "rollback"  #: as if it had never been
    TIMEOUT = "timeout"  #: its deadline passed


BUSY = (
    "Thread is already running a task. Wait for it to finish or choose a different multitask "
    "strategy."
)
CANCELLED_RUN = "{action} requested via POST /threads/{{thread_id}}/runs/{{run_id}}/cancel"
CANCELLED_RUNS = "{action} requested via POST /runs/cancel"
#: Begins the reason of a run that was cancelled because another one took over its input.
TAKEN = "taken: "
ASSISTANT_DELETED = "the run's assistant was deleted"
DISCONNECTED = "client disconnected from the run stream (on_disconnect=cancel)"
SUPERSEDED = "superseded by run {run_id} (multitask_strategy={strategy})"


def decide(strategy: str, active: Sequence[RunStatus]) -> Action | None:
    """
    What happens to the active runs of a thread that gets another. None: nothing.

    :raises Conflict: the strategy is to reject, and there is one.
    """
    match Strategy(strategy):
        case Strategy.REJECT if active:
            raise Conflict(BUSY)
        case Strategy.INTERRUPT if active:
            return Action.INTERRUPT
        case Strategy.ROLLBACK if active:
            return Action.ROLLBACK
        case _:
            return None


def ended_by(action: Action, reason: str | None) -> Outcome:
    """How a run ends that was asked to. Without a thread status it is undone, and so is its row."""
    match action:
        case Action.INTERRUPT:
            return Outcome(
                status=RunStatus.INTERRUPTED,
                thread_status=ThreadStatus.INTERRUPTED,
                error={"error": "UserInterrupt", "message": reason or ""},
            )
        case Action.ROLLBACK:
            return Outcome(
                status=RunStatus.INTERRUPTED,
                thread_status=None,
                error={"error": "UserRollback", "message": reason or ""},
            )
        case Action.TIMEOUT:
            return Outcome(
                status=RunStatus.TIMEOUT,
                thread_status=ThreadStatus.ERROR,
                error={"error": "TimeoutError", "message": ""},
            )
