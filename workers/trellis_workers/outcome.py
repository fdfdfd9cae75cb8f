"""What the end of an attempt means for the run and its thread. Pure: decides, records nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trellis.domain.runs import Outcome, RunStatus, ThreadStatus

#: Longest message kept of an exception, in characters.
_MESSAGE = 10_000


def of_success(*, next_nodes: Sequence[str], interrupts: Mapping[str, Any]) -> Outcome:
    """The graph ended, or paused: a run that waits for a human has succeeded."""
    waiting = bool(next_nodes or interrupts)
    return Outcome(
        status=RunStatus.SUCCESS,
        thread_status=ThreadStatus.INTERRUPTED if waiting else ThreadStatus.IDLE,
        interrupts=interrupts,
    )


def of_exception(error: BaseException) -> Outcome:
    """The graph raised: the run has failed, and so has its thread."""
    return Outcome(status=RunStatus.ERROR, thread_status=ThreadStatus.ERROR, error=describe(error))


def describe(error: BaseException) -> dict[str, str]:
    """An exception as clients see it: class name and text, without what Postgres and JSON cannot hold."""
    text = str(error)[:_MESSAGE].replace("\x00", "\ufffd")
    return {
        "error": type(error).__name__,
        "message": text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
    }
