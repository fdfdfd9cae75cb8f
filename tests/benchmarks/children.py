"""Start a server as a child process, wait until it answers, and leave nothing behind."""

import resource
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from trellis.dev.process import kill_session, spawn, wait_for_exit

STOP_SECONDS = 30


class StartFailed(Exception):
    """A server did not come up; the message ends with what it said."""


@dataclass(frozen=True, kw_only=True)
class Child:
    """A server's process, its log, and when it was started."""

    name: str
    process: Popen[bytes]
    log: Path
    began: float

    @property
    def pid(self) -> int:
        """The root of its process tree."""
        return self.process.pid

    def age(self) -> float:
        """Seconds since it was started."""
        return time.perf_counter() - self.began

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])


@contextmanager
def running(
    name: str, command: Sequence[str], *, env: Mapping[str, str], folder: Path
) -> Iterator[Child]:
    """Run a command until the block ends; then end it and what it started."""
    with tempfile.NamedTemporaryFile(prefix=f"trellis-bench-{name}-", suffix=".log") as log:
        process = spawn(
            command, dies_with=signal.SIGTERM, output=log.file, environment=env, folder=folder
        )
        child = Child(name=name, process=process, log=Path(log.name), began=time.perf_counter())
        try:
            yield child
        finally:
            process.terminate()
            wait_for_exit(process, STOP_SECONDS)
            kill_session(process)


def wait_until(answers: Callable[[], bool], *children: Child, seconds: float) -> None:
    """
    Ask until the answer is yes.

    :raises StartFailed: a child ended, or the answer was no for that long.
    """
    deadline = time.perf_counter() + seconds
    while not answers():
        ended = [child for child in children if child.process.poll() is not None]
        if ended or time.perf_counter() > deadline:
            why = f"{ended[0].name} ended" if ended else f"no answer in {seconds:.0f} s"
            logs = "\n".join(f"--- {child.name}\n{child.last_words()}" for child in children)
            raise StartFailed(f"{why}; the logs end with:\n{logs}")
        time.sleep(0.02)


def responds(url: str, *, data: bytes | None = None, expect: bytes = b"") -> bool:
    """Tell whether a request is answered with 2xx and holds what is expected."""
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return expect in response.read()
    except OSError:
        # HTTP errors are among them: a server may refuse until its other half is there.
        return False


def allow_many_files() -> None:
    """Raise the limit of open files as far as it goes, here and in children started later."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
