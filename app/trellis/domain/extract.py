"""Paths into a thread: `values.messages[-1].content`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trellis.errors import Invalid

ROOTS = ("config", "interrupts", "metadata", "values")

_STEP = re.compile(r"\.([^.\[\]]+)|\[(-?[0-9]{1,9})\]")


@dataclass(frozen=True, slots=True)
class Path:
    """Where something is: a part of the thread, then keys of objects and places in lists."""

    root: str
    steps: Sequence[str | int]


def parse(text: str) -> Path:
    """
    Read a path.

    :raises Invalid: says what a path looks like.
    """
    root = re.split(r"[.\[]", text, maxsplit=1)[0]
    if root not in ROOTS:
        raise Invalid(f"Extract path '{text}' must start with one of: {', '.join(ROOTS)}")
    rest = text[len(root) :]
    found = list(_STEP.finditer(rest))
    if "".join(step[0] for step in found) != rest:
        raise Invalid(
            f"Extract path '{text}' must go on with .key or [place], as in values.messages[-1].content"
        )
    return Path(root, [step[1] if step[1] is not None else int(step[2]) for step in found])


def follow(path: Path, thread: Mapping[str, Any]) -> Any:
    """What is at a path; None when nothing is."""
    found = thread[path.root]
    for step in path.steps:
        if isinstance(step, str) and isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(step, int) and isinstance(found, list) and -len(found) <= step < len(found):
            found = found[step]
        else:
            return None
    return found
