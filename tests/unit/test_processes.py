"""What a process cannot lose without being lost itself."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from trellis.processes import run_loop

SECONDS = 10.0

SCRIPT = """
import os
from trellis.processes import VitalThread

def work():
    {work}

thread = VitalThread(work, name="database")
thread.start()
thread.join()
os._exit(7)
"""


@pytest.mark.parametrize(
    ("work", "code"), [("pass", 7), ("raise ValueError('why')", 1), ("raise SystemExit(0)", 1)]
)
def test_vital_thread(work: str, code: int) -> None:
    argv = [sys.executable, "-c", SCRIPT.format(work=work)]

    ended = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert ended.returncode == code
    assert ("Traceback" in ended.stderr) == (code == 1)


def leave() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("ending", ["exit", "stop"])
def test_run_loop__user_code_would_end_it(ending: str) -> None:
    loop = asyncio.new_event_loop()
    threading.Thread(target=run_loop, args=(loop,), daemon=True).start()
    end: Callable[[], None] = {"exit": leave, "stop": loop.stop}[ending]
    answered = threading.Event()

    loop.call_soon_threadsafe(end)
    # In the turn after: what is queued when a loop is stopped is still done.
    loop.call_soon_threadsafe(loop.call_later, 0.01, answered.set)

    assert answered.wait(SECONDS)
