"""The line between a worker process and its parent: words, one per line, over a socket pair."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial

from trellis.processes import VitalThread

#: Child to parent: I take runs; I take no more; another should take my place. The name of a ward: it has runs.
READY, DRAINING, WORN = "ready", "draining", "worn"
#: Parent to child: a neighbour died, look for its runs now.
RESCUE = "rescue"

#: The child's exit code when it cannot start: the environment or langgraph.json is wrong.
CANNOT_START = 2


def owner(pid: int, token: str) -> str:
    """The name that a worker process has in its leases: no other process ever has it, in no container."""
    return f"{socket.gethostname()}:{pid}:{token}"


class Channel:
    """The child's end. When the parent is gone, so is the process: nobody would know of it."""

    def __init__(self, descriptor: int) -> None:
        # What a node starts must not hold the line open.
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)

    def say(self, word: str) -> None:
        self._socket.sendall(f"{word}\n".encode())

    def listen(self, answers: Mapping[str, Callable[[], None]]) -> None:
        """Call what answers a word, from a thread, from now on."""
        VitalThread(partial(self._listen, answers), name="parent").start()

    def _listen(self, answers: Mapping[str, Callable[[], None]]) -> None:
        with self._socket.makefile("r") as lines:
            for line in lines:
                answers[line.strip()]()
        # Linux has killed us by now (processes.die_with_parent); this is for systems that cannot.
        os.kill(os.getpid(), signal.SIGKILL)
