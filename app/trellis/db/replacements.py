"""
What decryptors want stored in place of what they were given: written back behind those who read, row by row.

A row is changed only while it holds what was read. Whatever is lost on the way, the next who reads brings it again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Engine, Update, column, literal, table, update
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, UUID
from sqlalchemy.types import Integer, LargeBinary, Text, TypeEngine

from trellis.telemetry import REPLACEMENT_FAILED, log

#: Rows that wait to be written; more are left to the next reader.
_MOST_WAITING = 1000

#: The rows of a model: table, and the columns that name one.
_MODELS = {
    "assistant": ("assistant", ("assistant_id",)),
    "assistant_version": ("assistant_version", ("assistant_id", "version")),
    "cron": ("cron", ("cron_id",)),
    "run": ("run", ("run_id",)),
    "store": ("store_item", ("tenant_id", "namespace", "key")),
    "thread": ("thread", ("thread_id",)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a value stands."""

    table: str
    keys: Mapping[str, Any]
    column: str


def of_model(model: str, ids: Sequence[Any], field: str) -> Place | None:
    """The place of a field. None: of such rows nothing is written back, because they do not live long."""
    if model not in _MODELS:
        return None
    name, keys = _MODELS[model]
    return Place(table=name, keys=dict(zip(keys, ids, strict=True)), column=field)


def of_row(model: str, row: Mapping[str, Any], field: str) -> Place | None:
    """The place of a field of a row that was read. None: it does not say which one it is."""
    _, keys = _MODELS.get(model, ("", ("",)))
    return of_model(model, [row[key] for key in keys], field) if {*keys} <= row.keys() else None


class WriteBack:
    """Writes replacements, one transaction each, in a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.Queue[Update] = queue.Queue(_MOST_WAITING)
        threading.Thread(target=self._main, name="replacements", daemon=True).start()

    def put(self, place: Place, old: Any, new: Any) -> None:
        """Have a value replaced if it is still the old one: bytes, or JSON data. Never waits."""
        try:
            self._waiting.put_nowait(_statement(place, old, new))
        except queue.Full:
            return

    def _main(self) -> None:
        while True:
            statement = self._waiting.get()
            try:
                with self._engine.begin() as tx:
                    tx.execute(statement)
            # The edge of a thread that must go on, whatever became of one row.
            except Exception as error:
                log().warning(REPLACEMENT_FAILED, error=str(error).split("\n")[0])


def _statement(place: Place, old: Any, new: Any) -> Update:
    is_blob = isinstance(old, bytes)
    changed = column(place.column, LargeBinary() if is_blob else JSONB())
    keys = {column(name, _type(name, value)): value for name, value in place.keys.items()}
    rows = table(place.table, changed, *keys)
    # Of JSON the text may differ, and where it is stored as text the order of its keys is to stay.
    is_old = changed == old if is_blob else changed.cast(JSONB) == _json(old).cast(JSONB)
    return (
        update(rows)
        .where(*(key == value for key, value in keys.items()), is_old)
        .values({changed: new if is_blob else _json(new).cast(JSON)})
    )


def _json(value: Any) -> ColumnElement[str]:
    return literal(orjson.dumps(value).decode(), Text())


def _type(name: str, value: Any) -> TypeEngine[Any]:
    if not isinstance(value, str):
        return Integer() if isinstance(value, int) else ARRAY(Text())
    is_uuid = name in ("assistant_id", "cron_id", "run_id", "thread_id")
    return UUID(as_uuid=False) if is_uuid else Text()
