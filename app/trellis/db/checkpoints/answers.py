"""Which of a human's answers no question has taken yet.

A client's answer stands in the writes of the checkpoint, under no task. The first question that is asked takes it:
LangGraph adds it to the answers of that question's task, and forgets it in memory only. It would find it again in the
tables, after a crash or in a later run, and give it to the task's next question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP

#: Constants of LangGraph's format: the task that is none, the channel of answers.
NO_TASK = "00000000-0000-0000-0000-000000000000"
RESUME = "__resume__"
RESUME_IDX = WRITES_IDX_MAP[RESUME]

#: Thread, namespace and checkpoint.
Place = tuple[str, str, str]


class Answers:
    """The answers among the writes that one saver has read and written."""

    def __init__(self) -> None:
        self._open: set[Place] = set()
        self._counts: dict[str, int] = {}

    def note(self, place: Place, task_id: str, channel: str, value: Any) -> None:
        """Remember a write that is in the tables, or on its way there."""
        if channel != RESUME:
            return
        if task_id != NO_TASK:
            self._counts[task_id] = _count(value)
        elif value is not None:
            self._open.add(place)

    def taken_by(self, task_id: str, writes: Sequence[tuple[str, Any]]) -> set[Place]:
        """Where the answer stood that a task has taken with these writes, if it has: there it must go now."""
        counts = [_count(value) for channel, value in writes if channel == RESUME]
        if task_id == NO_TASK or not counts or counts[-1] <= self._counts.get(task_id, 0):
            return set()
        taken, self._open = self._open, set()
        return taken


def is_taken(task_id: str, channel: str, value: Any) -> bool:
    """Whether this write is what is left of an answer that was taken."""
    return task_id == NO_TASK and channel == RESUME and value is None


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1
