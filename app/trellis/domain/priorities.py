"""What a priority is, and where it puts a run in line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The first and the last in line.
FIRST, LAST = -5, 5
#: A run stands in line as if it had come so much later for each step (or earlier): whoever waits longer than all steps
#: together make up for is overtaken by nobody, so that nothing starves.
STEP_MINUTES = 5
_MAX_GROUP = 256


def priority_of(answer: Any) -> int:
    """
    The priority in what the operator's hook returned: None, or settings whose keys may be missing or null.

    :raises ValueError: it is something else.
    """
    settings = {} if answer is None else answer
    if not isinstance(settings, Mapping):
        raise ValueError(f"it returned {type(answer).__name__}, not settings")
    if unknown := settings.keys() - {"priority", "fairness_group"}:
        raise ValueError(f"it knows priority and fairness_group, not {min(map(str, unknown))}")
    group = settings.get("fairness_group") or ""
    if not isinstance(group, str) or len(group) > _MAX_GROUP:
        raise ValueError(f"fairness_group is a text of at most {_MAX_GROUP} characters")
    return _checked(settings.get("priority") or 0)


def _checked(priority: Any) -> int:
    is_whole = isinstance(priority, int) and not isinstance(priority, bool)
    if not is_whole or not FIRST <= priority <= LAST:
        raise ValueError(f"priority is a whole number from {FIRST} to {LAST}, not {priority!r}")
    return int(priority)
