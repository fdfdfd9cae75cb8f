"""The thread that does the chores of a worker, each at its own pace."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from trellis.processes import VitalThread
from trellis.telemetry import CHORE_FAILED, log


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do again and again; it returns how much it found to do."""

    name: str
    every_seconds: float
    run: Callable[[], int]
    #: The chore to do so many seconds after this one has found something.
    then: tuple[str, float] | None = None


class Chores:
    """Runs chores until closed, each first at once. Jitter keeps many workers from doing the same at the same moment."""

    def __init__(self, chores: list[Chore]) -> None:
        self._due = dict.fromkeys(chores, time.monotonic())
        self._named = {chore.name: chore for chore in chores}
        self._closed = False
        self._wake = threading.Event()
        self._thread = VitalThread(self._main, name="chores")
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=10)

    def hasten(self, name: str, *, seconds: float) -> None:
        """Do a chore in so many seconds, if it would not be done before. From any thread."""
        chore = self._named[name]
        self._due[chore] = min(self._due[chore], time.monotonic() + seconds)
        self._wake.set()

    def _main(self) -> None:
        while True:
            self._wake.clear()
            if self._closed:
                return
            chore = min(self._due, key=lambda c: self._due[c])
            left = self._due[chore] - time.monotonic()
            if left > 0:
                self._wake.wait(left)
            else:
                self._due[chore] = time.monotonic() + _jittered(chore)
                self._do(chore)

    def _do(self, chore: Chore) -> None:
        try:
            found = chore.run()
        except Exception as error:
            log().warning(CHORE_FAILED, chore=chore.name, error=str(error).split("\n")[0])
            return
        if found and chore.then is not None:
            name, seconds = chore.then
            # A little later, or it would look a moment too early.
            self.hasten(name, seconds=seconds + 0.02)


def _jittered(chore: Chore) -> float:
    return chore.every_seconds * random.uniform(0.75, 1.25)
