"""Tell how many runs this process executes at once, for as long as it takes any."""

from __future__ import annotations

import threading
from contextlib import suppress

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from trellis.db import workers


def report(engine: Engine, owner: str, *, slots: int, draining: threading.Event) -> int:
    """Say that the process is there, or that it takes no more runs. Returns 0: nothing is left to do."""
    with engine.begin() as tx:
        if draining.is_set():
            workers.forget(tx, owner)
        else:
            workers.keep(tx, owner, slots=slots)
    return 0


def leave(engine: Engine, owner: str) -> None:
    """Say that the process is gone. Without a database it is found out in a while."""
    with suppress(SQLAlchemyError), engine.begin() as tx:
        workers.forget(tx, owner)
