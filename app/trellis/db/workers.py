"""Rows of workers: which processes execute runs, how many each at once, and when they were last heard of."""

from __future__ import annotations

from functools import partial

from trellis.db import queries
from trellis.db.engine import Tx

_row = partial(queries.row, "workers")
_run = partial(queries.change, "workers")

#: After so many seconds without a word a process does not count any more.
SILENT_SECONDS = 15.0
#: How often each says that it is there.
EVERY_SECONDS = 5.0


def keep(tx: Tx, owner: str, *, slots: int) -> None:
    """Say that a process is there, and forget those that have been silent for long."""
    _run(tx, "keep", owner=owner, slots=slots)
    _run(tx, "sweep", seconds=60 * SILENT_SECONDS)


def are_there(tx: Tx) -> bool:
    """Whether any process executes runs."""
    found = _row(tx, "there", seconds=SILENT_SECONDS)
    return bool(found and found["there"])


def forget(tx: Tx, owner: str) -> None:
    """A process takes no more runs."""
    _run(tx, "forget", owner=owner)
