"""Whether the database answers, and how long its queue of runs is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from trellis.db.statements import sql


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
    How many runs are pending and running, and how many seconds those that are due have waited.

    None means that the database does not answer: whoever watches the server must hear of the rest.
    """
    try:
        with engine.connect() as tx:
            found = tx.exec_driver_sql(sql("health", "queue")).mappings().one()
    except SQLAlchemyError:
        return None
    return cast("Mapping[str, Any]", found)
