"""What the end of an attempt means for the run and its thread. Pure: decides, records nothing."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from trellis.domain.failures import describe, storable
from trellis.domain.interrupts import rest_status
from trellis.domain.runs import Outcome, RunStatus, ThreadStatus
from trellis.errors import UnknownInterruptError

#: Longest end kept of a traceback: where it happened stands last.
_TRACEBACK = 50_000


def of_success(*, next_nodes: Sequence[str], interrupts: Mapping[str, Any]) -> Outcome:
    """The graph ended, or paused: a run that waits for a human has succeeded."""
    return Outcome(
        status=RunStatus.SUCCESS,
        thread_status=rest_status(next_nodes, interrupts),
        interrupts=interrupts,
    )


def of_exception(error: BaseException) -> Outcome:
    """The graph raised: the run has failed, and so has its thread, unless the run was refused before it began."""
    return Outcome(
        status=RunStatus.ERROR,
        thread_status=ThreadStatus.ERROR,
        error=describe(error),
        keeps_thread=isinstance(error, UnknownInterruptError),
        traceback=storable("".join(traceback.format_exception(error))[-_TRACEBACK:]),
    )
