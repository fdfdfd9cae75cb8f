"""A database server that this process started, and the folder it alone may use."""

from __future__ import annotations

import fcntl
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trellis.dev.process import kill_session, poll_until, wait_for_exit
from trellis.errors import ConfigError

#: Postgres may have to replay its log after a crash.
READY_SECONDS = 60.0

#: A log larger than this starts afresh at the next start; the old one is kept beside it.
_LOG_BYTES = 10_000_000


class Lock:
    """Sole use of a folder, until released or until this process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """:raises BlockingIOError: another process holds it."""
        self._file = path.open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise

    def release(self) -> None:
        self._file.close()


def lock_folder(folder: Path) -> Lock:
    """:raises ConfigError: another process runs a server on this folder."""
    try:
        return Lock(folder / "lock")
    except BlockingIOError:
        raise ConfigError(f"Another process runs a server on {folder}.") from None


@dataclass(kw_only=True)
class Server:
    """
    A server that runs until `stop`, or until this process ends, even by kill -9 (on Linux).

    `folder` is where its data is, which is not always where it was asked to be.
    """

    name: str
    url: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    lock: Lock
    log: Path
    stop_signal: signal.Signals
    answers: Callable[[], bool]

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """
        Return when the server answers.

        :raises ConfigError: it ended instead, or did not answer in time; its last words are quoted.
        """
        if not poll_until(lambda: self.answers() or not self.is_alive(), seconds=seconds):
            raise self._failed(f"did not answer within {seconds:.0f} seconds")
        if not self.is_alive():
            raise self._failed("did not start")

    def _failed(self, what: str) -> ConfigError:
        self.stop()
        return ConfigError(f"{self.name} {what}. The end of {self.log}:\n{tail(self.log)}")

    def stop(self, *, seconds: float = 20.0) -> None:
        """End the server in good order, or by force after that long. Safe to call again."""
        if self.is_alive():
            self.process.send_signal(self.stop_signal)
            if not wait_for_exit(self.process, seconds):
                kill_session(self.process)
        self.lock.release()


def open_log(path: Path) -> IO[bytes]:
    """Open a log for appending."""
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.rename(path.with_suffix(".old.log"))
    return path.open("ab")


def tail(path: Path, *, lines: int = 10) -> str:
    """The last lines of a log."""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 8192))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
