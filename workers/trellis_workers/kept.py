"""One worker process as its parent sees it."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import warnings

from trellis.domain.runs import Ward
from trellis.processes import die_with_parent, resident_bytes
from trellis_workers import channel


class Kept:
    """A started child: what it said, what it was told. Create it in the main thread."""

    def __init__(self, ward: Ward = Ward.OPEN) -> None:
        """:raises OSError: the system gives us no process, or no socket, now."""
        self.ward = ward
        self.is_ready = False
        self.is_worn = False
        self.seen: set[Ward] = set()  #: quarantines that have runs to execute
        self._left_at: float | None = None
        self._heard = b""
        self._token = secrets.token_hex(4)
        self.line, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as unless_started:
            unless_started.callback(self.line.close)
            self._process = _start(self._token, theirs.fileno(), ward)
            unless_started.pop_all()
        self.line.setblocking(False)
        self._since = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def owner(self) -> str:
        """The name in its leases."""
        return channel.owner(self._process.pid, self._token)

    @property
    def age_seconds(self) -> float:
        """How long it has been taking runs, or has been starting."""
        return time.monotonic() - self._since

    @property
    def is_leaving(self) -> bool:
        """Whether it takes no more runs, and ends when it has none."""
        return self._left_at is not None

    @property
    def leaving_seconds(self) -> float:
        """How long it has been leaving."""
        return 0.0 if self._left_at is None else time.monotonic() - self._left_at

    @property
    def resident_mb(self) -> int:
        return resident_bytes(self._process.pid) >> 20

    def exit_code(self) -> int | None:
        """None: it lives."""
        return self._process.poll()

    def hear(self) -> None:
        """Take in what it said."""
        with contextlib.suppress(OSError):
            self._heard += self.line.recv(4096)
        *words, self._heard = self._heard.split(b"\n")
        for word in words:
            self._note(word.decode())

    def _note(self, word: str) -> None:
        match word:
            case channel.READY:
                self.is_ready = True
                self._since = time.monotonic()
            case channel.DRAINING:
                self._leave()
            case channel.WORN:
                self.is_worn = True
            case Ward.SHARED | Ward.ALONE:
                self.seen.add(Ward(word))

    def tell(self, word: str) -> None:
        """Say something to it. A child that is dead or frozen does not hear."""
        with contextlib.suppress(OSError):
            self.line.send(f"{word}\n".encode())

    def drain(self) -> None:
        """Ask it to end."""
        self._leave()
        self._process.send_signal(signal.SIGTERM)

    def _leave(self) -> None:
        self._left_at = self._left_at or time.monotonic()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.line.close()


def _start(token: str, descriptor: int, ward: Ward) -> subprocess.Popen[bytes]:
    """Start a new interpreter, in a session of its own: signals to our group reach it through us alone."""
    argv = [sys.executable, "-P", "-m", "trellis_workers.child", token, str(descriptor), ward]
    with warnings.catch_warnings():
        # The fork may happen beside a thread of ours; the child takes no lock before it execs.
        warnings.simplefilter("ignore", DeprecationWarning)
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
            start_new_session=True,
            env=os.environ,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
