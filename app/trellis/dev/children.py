"""The processes of `trellis dev`: started, relayed to the terminal, started again, stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from trellis.dev.process import kill_session, poll_until, spawn, wait_for_exit
from trellis.processes import describe_exit

Say = Callable[[str], None]

#: Deaths in a row after which starting again would only repeat them.
MAX_DEATHS = 5

#: A process that lived this long was well; its next death counts as the first.
_WELL_AFTER_SECONDS = 10.0

_FIRST_PAUSE_SECONDS = 0.5


class Child:
    """
    One process that is kept running until `stop`.

    `overlaps` says that its successor may start before it is gone: a worker may, a web server's
    port is taken. `environment` is asked anew at each start. `ready` is set once the process, as
    it runs now, prints a line with `ready_text`.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Callable[[], Mapping[str, str]],
        folder: Path,
        grace_seconds: float,
        overlaps: bool,
        ready_text: str,
        say: Say,
    ) -> None:
        self.name = name
        self.ready = threading.Event()
        self._ready_text = ready_text
        self.gave_up = False
        self._argv = argv
        self._environment = environment
        self._folder = folder
        self._grace_seconds = grace_seconds
        self._overlaps = overlaps
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._relay: threading.Thread | None = None
        self._retired: list[tuple[subprocess.Popen[bytes], float]] = []
        self._deaths = 0
        self._start_at = self._started_at = 0.0

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process. Call from the main thread."""
        self._started_at = time.monotonic()
        self._process = spawn(
            self._argv,
            # The parent was killed, and its databases go down with it: nothing is left to wait for.
            dies_with=signal.SIGKILL,
            output=subprocess.PIPE,
            environment=self._environment(),
            folder=self._folder,
        )
        assert self._process.stdout is not None
        self.ready = threading.Event()
        self._relay = threading.Thread(
            target=_relay,
            args=(self.name, self._process.stdout, self._ready_text, self.ready),
            daemon=True,
        )
        self._relay.start()

    def tend(self) -> None:
        """Start the process again if it died, after a pause that doubles; give up after five deaths."""
        now = time.monotonic()
        self._bury_retired(now)
        if self.is_alive():
            if now - self._started_at > _WELL_AFTER_SECONDS:
                self._deaths = 0
        elif self._process is not None:
            self._record_death(now)
        elif not self.gave_up and now >= self._start_at:
            self.start()

    def _record_death(self, now: float) -> None:
        assert self._process is not None
        how = describe_exit(self._process.returncode)
        kill_session(self._process)
        self._process = None
        self._show_last_lines()
        self._deaths += 1
        self.gave_up = self._deaths >= MAX_DEATHS
        if self.gave_up:
            self._say(f"{self.name} {how}, {MAX_DEATHS} times in a row. Its last lines say why.")
            return
        pause = _FIRST_PAUSE_SECONDS * 2 ** (self._deaths - 1)
        self._start_at = now + pause
        self._say(f"{self.name} {how}. Starting it again in {pause:g} s.")

    def restart(self) -> None:
        """Replace the process by a new one, which loads the code as it is now."""
        self._deaths, self.gave_up = 0, False
        if self._process is not None:
            self._process.terminate()
            if self._overlaps:
                self._retired.append((self._process, time.monotonic() + self._grace_seconds))
            else:
                wait_for_exit(self._process, self._grace_seconds)
                kill_session(self._process)
        self.start()

    def _bury_retired(self, now: float) -> None:
        gone = [it for it in self._retired if it[0].poll() is not None or now > it[1]]
        for process, _ in gone:
            kill_session(process)
        self._retired = [it for it in self._retired if it not in gone]

    def stop(self, *, hurry: Callable[[], bool]) -> None:
        """End the process in good order; by force when that takes too long or `hurry` says so."""
        processes = [process for process, _ in self._retired]
        processes += [self._process] if self._process is not None else []
        for process in processes:
            process.terminate()
        poll_until(
            lambda: all(process.poll() is not None for process in processes) or hurry(),
            seconds=self._grace_seconds,
        )
        for process in processes:
            kill_session(process)
        self._process, self._retired = None, []
        self._show_last_lines()

    def _show_last_lines(self) -> None:
        if self._relay is not None:
            self._relay.join(timeout=1)


def _relay(name: str, output: IO[bytes], ready_text: str, ready: threading.Event) -> None:
    """Write a process's lines to our output, each with the name in front, until it ends."""
    for raw in output:
        line = raw.decode(errors="replace").rstrip()
        if ready_text in line:
            ready.set()
        try:
            sys.stdout.write(f"{name:<6} | {line}\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            # Nobody reads any more. Go on taking lines, or the process would block on a full pipe.
            continue
