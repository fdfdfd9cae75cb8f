"""What happens to the runs of a thread that gets another, and how a run ends that was asked to."""

from __future__ import annotations

import pytest

from trellis.domain.multitask import BUSY, Action, Strategy, decide, ended_by
from trellis.domain.runs import RunStatus, ThreadStatus
from trellis.errors import Conflict

PENDING, RUNNING = RunStatus.PENDING, RunStatus.RUNNING


@pytest.mark.parametrize(
    ("strategy", "active", "action"),
    [
        ("enqueue", [], None),
        ("enqueue", [RUNNING, PENDING], None),
        ("reject", [], None),
        ("interrupt", [], None),
        ("interrupt", [PENDING], Action.INTERRUPT),
        ("interrupt", [RUNNING, PENDING], Action.INTERRUPT),
        ("rollback", [], None),
        ("rollback", [RUNNING], Action.ROLLBACK),
    ],
)
def test_decide(strategy, active, action):
    assert decide(strategy, active) == action


@pytest.mark.parametrize("active", [[RUNNING], [PENDING], [RUNNING, PENDING]])
def test_decide__reject(active):
    with pytest.raises(Conflict, match=f"^{BUSY}$"):
        decide("reject", active)


def test_decide__every_strategy_is_known():
    assert {str(strategy) for strategy in Strategy} == {
        "reject",
        "enqueue",
        "interrupt",
        "rollback",
    }


@pytest.mark.parametrize(
    ("action", "status", "thread_status", "error"),
    [
        ("interrupt", "interrupted", ThreadStatus.INTERRUPTED, ("UserInterrupt", "why")),
        ("rollback", "interrupted", None, ("UserRollback", "why")),
        ("timeout", "timeout", ThreadStatus.ERROR, ("TimeoutError", "")),
    ],
)
def test_ended_by(action, status, thread_status, error):
    ended = ended_by(Action(action), "why")

    assert (ended.status, ended.thread_status) == (status, thread_status)
    assert (ended.error["error"], ended.error["message"]) == error
