"""What a paused graph waits for, and what that makes of its thread."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trellis.domain.runs import ThreadStatus

_ID = re.compile("[0-9a-f]{32}")


def rest_status(next_nodes: Sequence[str], interrupts: Mapping[str, Any]) -> ThreadStatus:
    """What a thread is on which nothing runs: one with nodes to go on with waits for a human."""
    return ThreadStatus.INTERRUPTED if next_nodes or interrupts else ThreadStatus.IDLE


def of_tasks(tasks: Sequence[Any]) -> dict[str, list[dict[str, Any]]]:
    """{task id: its open questions}; a subgraph's stand under the inner task."""
    found: dict[str, list[dict[str, Any]]] = {}
    for task in tasks:
        inner = of_tasks(task.state.tasks) if hasattr(task.state, "tasks") else {}
        found.update(inner)
        if task.interrupts and not inner:
            found[task.id] = [_interrupt(item) for item in task.interrupts]
    return found


def unknown_answers(resume: Any, waiting: Mapping[str, Sequence[Any]]) -> list[str]:
    """
    What an answer answers that does not wait: ids of questions, or `a question` if it names none and none waits.

    `waiting` is what `of_tasks` found.
    """
    ids = {question["id"] for questions in waiting.values() for question in questions}
    if not (named := by_id(resume)):
        return [] if ids else ["a question"]
    return [key for key in named if key not in ids]


def by_id(resume: Any) -> Mapping[str, Any]:
    """The answers that say which question they are for; a dictionary with other keys is one answer itself."""
    return resume if isinstance(resume, Mapping) and all(map(_is_id, resume)) else {}


def _is_id(key: Any) -> bool:
    """Whether langgraph takes a key of an answer for the id of a question."""
    return isinstance(key, str) and _ID.fullmatch(key) is not None


def _interrupt(item: Any) -> dict[str, Any]:
    shown = {"id": item.id, "value": item.value}
    schema = getattr(item, "response_schema", None)
    return shown if schema is None else {**shown, "response_schema": schema}
