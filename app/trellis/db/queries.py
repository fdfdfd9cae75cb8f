"""Run named statements, as prepared ones where the session allows it."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import Connection, CursorResult, Engine
from sqlalchemy.exc import DBAPIError

from trellis.db.statements import sql

Row = Mapping[str, Any]

_PARAMETER = re.compile(r"%\((\w+)\)s((?:::\w+(?:\[\])?)?)")

#: Option of an engine: its `Preparing`.
_PREPARING = "trellis_preparing"
#: Key of a connection's `info`: the names of the statements that this connection has prepared.
_PREPARED = "trellis.prepared"
#: What Postgres says when a pooler between us and it changed the session: unknown or duplicate prepared statement.
_LOST = ("26000", "42P05")


def execute(
    tx: Connection, topic: str, name: str, params: Mapping[str, Any]
) -> CursorResult[*tuple[Any, ...]]:
    """Run a named statement; as a prepared one where the engine was made for it."""
    preparing: Preparing | None = tx.get_execution_options().get(_PREPARING)
    if preparing is None or not preparing.wants(topic, name):
        return tx.exec_driver_sql(sql(topic, name), dict(params))
    try:
        return _execute_prepared(tx, topic, name, params)
    except DBAPIError as error:
        if not (preparing.alone and preparing.lost(error)):
            raise
    return tx.exec_driver_sql(sql(topic, name), dict(params))


def _execute_prepared(
    tx: Connection, topic: str, name: str, params: Mapping[str, Any]
) -> CursorResult[*tuple[Any, ...]]:
    prepare, run = _as_prepared(topic, name)
    prepared: set[str] = tx.info.setdefault(_PREPARED, set())
    if prepare not in prepared:
        tx.exec_driver_sql(prepare)
        prepared.add(prepare)
    return tx.exec_driver_sql(run, dict(params))


# By topic first, so that a module can bind its own: `_row = partial(row, "runs")`


def rows(topic: str, tx: Connection, name: str, /, **params: Any) -> Sequence[Row]:
    """Run a named statement. Returns all its rows."""
    return cast("Sequence[Row]", execute(tx, topic, name, params).mappings().all())


def row(topic: str, tx: Connection, name: str, /, **params: Any) -> Row | None:
    """Run a named statement. Returns its first row; None means that it has none."""
    return cast("Row | None", execute(tx, topic, name, params).mappings().first())


def change(topic: str, tx: Connection, name: str, /, **params: Any) -> int:
    """Run a named statement. Returns how many rows it concerned."""
    return execute(tx, topic, name, params).rowcount


@cache
def _as_prepared(topic: str, name: str) -> tuple[str, str]:
    """PREPARE and EXECUTE of a statement. A parameter keeps its cast in both: arrays of text are not arrays of uuids."""
    text = sql(topic, name)
    casts: dict[str, str] = {}
    for parameter, kind in _PARAMETER.findall(text):
        casts[parameter] = casts.get(parameter) or kind
    order = {parameter: n for n, parameter in enumerate(casts, 1)}
    body = _PARAMETER.sub(lambda m: f"${order[m[1]]}{m[2]}", text).replace("%%", "%")
    arguments = ", ".join(f"%({parameter})s{cast}" for parameter, cast in casts.items())
    return f"PREPARE {topic}_{name} AS {body}", f"EXECUTE {topic}_{name}" + (
        f" ({arguments})" if arguments else ""
    )


class Preparing:
    """
    Makes an engine's connections plan named statements once instead of at each execution.

    Planning costs more than executing them: about 1.5 ms of Postgres's time for a run. It needs a session, which a
    pooler in transaction mode does not give: `lost` notices, and switches it off for good.
    """

    def __init__(
        self, engine: Engine, *, only: Container[tuple[str, str]] | None = None, alone: bool = False
    ) -> None:
        """
        `engine` is what to connect with from now on.

        :param only: topic and name of the statements to prepare; None means all.
        :param alone: each statement is a transaction of its own, so one that was lost can be run again at once.
        """
        self.engine = engine.execution_options(**{_PREPARING: self})
        self.alone = alone
        self._only = only
        self._on = True

    def wants(self, topic: str, name: str) -> bool:
        return self._on and (self._only is None or (topic, name) in self._only)

    def lost(self, error: BaseException) -> bool:
        """Whether a statement failed only because it was prepared. If so, none is prepared from now on."""
        if not isinstance(error, DBAPIError) or getattr(error.orig, "pgcode", None) not in _LOST:
            return False
        self._on = False
        return True
