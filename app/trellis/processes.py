"""Processes and their threads: that they end with their parent, how they ended, their memory, what they cannot lose."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_PR_SET_PDEATHSIG = 1


def die_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    """
    A `preexec_fn` for a process that must not outlive us. None where the system has no such thing.

    Linux sends it `signum` when the *thread* that started it ends: start it from the main thread.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signum))
        # The parent may have died before the line above.
        if os.getppid() != parent:
            os._exit(1)

    return arm


def describe_exit(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def resident_bytes(pid: int) -> int:
    """The memory that a process occupies; 0 when it is gone."""
    if sys.platform == "linux":
        try:
            pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    answer = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return int(answer.stdout.strip() or 0) * 1024


def run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """
    Run an event loop for ever.

    User code on it may call stop(), or exit(), which asyncio lets through: neither must end it for all the others.
    """
    while True:
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_forever()


class VitalThread(threading.Thread):
    """A thread without which its process only looks well: should it ever raise, the process ends, and is replaced."""

    def __init__(self, target: Callable[[], object], *, name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)

    def run(self) -> None:
        try:
            super().run()
        except BaseException:
            with suppress(OSError, ValueError):
                traceback.print_exc()
            os._exit(1)
