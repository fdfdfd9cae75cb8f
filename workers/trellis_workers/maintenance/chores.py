"""The thread that does the chores of a worker, each at its own pace."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from trellis.telemetry import log

CHORE_FAILED = "chore.failed"


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do again and again; it returns how much it found to do."""

    name: str
    every_seconds: float
    run: Callable[[], int]


class Chores:
    """Runs chores until closed. Jitter keeps many workers from doing the same thing at the same moment."""

    def __init__(self, chores: list[Chore]) -> None:
        self._due = {chore: time.monotonic() + _jittered(chore) for chore in chores}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="chores", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _main(self) -> None:
        while not self._stop.wait(max(0.0, min(self._due.values()) - time.monotonic())):
            chore = min(self._due, key=lambda c: self._due[c])
            self._due[chore] = time.monotonic() + _jittered(chore)
            try:
                chore.run()
            except Exception as error:
                log().warning(CHORE_FAILED, chore=chore.name, error=str(error).split("\n")[0])


def _jittered(chore: Chore) -> float:
    return chore.every_seconds * random.uniform(0.75, 1.25)
