"""Delete from the operator's own checkpointer what it still holds of checkpoints that are gone."""

from __future__ import annotations

import random
import threading

from sqlalchemy import Engine

from trellis.db.checkpoints import Contents, leftovers
from trellis.db.checkpoints.contents import PATIENCE_SECONDS
from trellis.db.checkpoints.leftovers import Leftover
from trellis.errors import CheckpointerFailed
from trellis.processes import VitalThread
from trellis.telemetry import CHECKPOINTER_FAILED, log

#: How often to look for what is due.
_LOOK_SECONDS = 1.0
#: What has not been reported by then is due again: its process died, or was frozen.
_DEADLINE_SECONDS = 4 * PATIENCE_SECONDS
#: The first pause is a second, each one twice the last, none longer than this.
_LONGEST_PAUSE_SECONDS = 3600.0


class Remover:
    """Deletes until closed, one thing after the other. It never gives up: what is left costs the operator's storage."""

    def __init__(self, engine: Engine, contents: Contents) -> None:
        self._engine = engine
        self._contents = contents
        self._closing = threading.Event()
        self._thread = VitalThread(self._main, name="leftovers")
        self._thread.start()

    def close(self) -> None:
        """Take nothing more. What is under way and not reported in time is deleted again by another process."""
        self._closing.set()
        self._thread.join(timeout=5)

    def _main(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS * random.uniform(0.75, 1.25)):
            try:
                while not self._closing.is_set() and self._take():
                    pass
            except Exception as error:
                log().warning(CHECKPOINTER_FAILED, error=str(error).split("\n")[0])

    def _take(self) -> bool:
        with self._engine.begin() as tx:
            leftover = leftovers.take(tx, deadline_seconds=_DEADLINE_SECONDS)
        if leftover is not None:
            self._remove(leftover)
        return leftover is not None

    def _remove(self, leftover: Leftover) -> None:
        try:
            self._contents.delete(leftover.thread_id, run_id=leftover.run_id)
        except CheckpointerFailed as error:
            pause = min(2.0 ** (leftover.attempt - 1), _LONGEST_PAUSE_SECONDS)
            with self._engine.begin() as tx:
                leftovers.failed(tx, leftover, error=str(error), pause_seconds=pause)
            return
        with self._engine.begin() as tx:
            leftovers.removed(tx, leftover)
