"""Whether the database answers, and how long its queue of runs is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from trellis.db.statements import sql
from trellis.db.workers import SILENT_SECONDS


def answers(engine: Engine) -> bool:
    """Whether the database answers."""
    try:
        with engine.connect() as tx:
            tx.exec_driver_sql("SELECT 1")
    except SQLAlchemyError:
        return False
    return True


def queue(engine: Engine) -> Mapping[str, Any] | None:
    """
    How many runs are pending and running, how many seconds those that are due have waited, and what workers can do.

    None means that the database does not answer: whoever watches the server must hear of the rest.
    """
    params = {"silent": SILENT_SECONDS}
    try:
        with engine.connect() as tx:
            found = tx.exec_driver_sql(sql("health", "queue"), params).mappings().one()
    except SQLAlchemyError:
        return None
    return cast("Mapping[str, Any]", found)
