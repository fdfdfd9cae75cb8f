"""Cancel runs whose clients were to take them along, and whose web process died with the client on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from trellis.db import presence
from trellis.db.queries import Row
from trellis.dispatch.announce import Announcer
from trellis.dispatch.signals import Signals
from trellis.domain.runs import Ended
from trellis.telemetry import CANCEL_FAILED, RUN_CANCELLED, log

#: How long nobody must have vouched for a client while this process could look, in seconds. After an outage of
#: Postgres the web processes get that long to say that they are there.
_PATIENCE_SECONDS = 6.0


class Leaver:
    """Remembers whom it found absent. Call it again and again."""

    def __init__(
        self,
        engine: Engine,
        signals: Signals,
        announcer: Announcer,
        tell: Callable[[Sequence[Ended]], None],
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._engine = engine
        self._signals = signals
        self._announcer = announcer
        self._tell = tell
        self._patience = patience_seconds
        self._absent: dict[tuple[str, object], float] = {}  #: run and row's time: since when

    def __call__(self) -> int:
        """Look once. Returns how many were absent for long enough. A look that fails begins all waiting anew."""
        before, self._absent = self._absent, {}
        with self._engine.begin() as tx:
            found = presence.absent(tx)
        now = time.monotonic()
        absent = {_key(row): before.get(_key(row), now) for row in found}
        late = [row for row in found if now - absent[_key(row)] >= self._patience]
        self._absent = absent
        for row in late:
            self._cancel(row)
        return len(late)

    def _cancel(self, row: Row) -> None:
        try:
            with self._engine.begin() as tx:
                stopped = presence.cancel_abandoned(tx, row)
        except SQLAlchemyError as error:
            # Its thread is locked, say. It is found again, and must not keep the others waiting.
            log().warning(CANCEL_FAILED, run_id=row["run_id"], error=str(error).split("\n")[0])
            return
        self._signals(stopped.asked)
        self._tell(stopped.ended)
        for run_id in (*(each.run_id for each in stopped.ended), *stopped.asked):
            log().info(RUN_CANCELLED, run_id=run_id)
        if stopped.following is not None:
            self._announcer(stopped.following.run_id, stopped.following.graph_id)


def _key(row: Row) -> tuple[str, object]:
    return row["run_id"], row["until"]
