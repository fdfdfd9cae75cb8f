import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from trellis.dev.command import demo_config
from trellis.dev.instance import running

COMMAND = (sys.executable, "-P", "-m", "trellis.cli", "demo")


def run_demo(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.endswith(("_URL", "_URI"))}
    return subprocess.run(
        COMMAND, cwd=folder, env=clean | env, capture_output=True, text=True, timeout=110
    )


def leftovers(folder: Path) -> list[psutil.Process]:
    """Processes that name the folder or sit in it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        found += [process] if any(str(folder) in word for word in words) else []
    return found


def test_demo(bare_folder: Path) -> None:
    demo = run_demo(bare_folder)

    assert demo.returncode == 0, demo.stdout + demo.stderr
    told = " ".join(demo.stdout.split())
    for part in (
        "another one claims the run",
        "calls calculate((17 + 4) * 2)",
        "That is 42.",
        "Refund 49.90 EUR for order A-1042: arrived broken. Pay it?",
        "is interrupted",
        "Paid 49.90 EUR back for order A-1042 (with our apologies).",
        "then ask (asked, and waited)",
        "the end",
    ):
        assert part in told, demo.stdout
    assert "\x1b[" not in demo.stdout
    assert leftovers(bare_folder) == []


def test_demo__beside_a_server_that_runs(start: Any, folder: Path, bare_folder: Path) -> None:
    dev = start("--config", str(demo_config()), data=str(bare_folder / ".trellis"))
    url = dev.instance().url

    demo = run_demo(bare_folder)

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert f"Trellis at {url}" in demo.stdout
    found = running(bare_folder / ".trellis")
    assert found is not None
    assert found.pid == dev.process.pid
    assert dev.interrupt() == 0


def test_demo__when_the_server_does_not_start(bare_folder: Path) -> None:
    demo = run_demo(bare_folder, DATABASE_URL="mysql://elsewhere")

    assert demo.returncode == 1
    assert "Error: The demo failed" in demo.stderr
    assert "DATABASE_URL must begin with postgresql://" in demo.stderr
    assert "Traceback" not in demo.stderr


@pytest.fixture
def bare_folder(folder: Path, request: pytest.FixtureRequest) -> Path:
    """A folder without a langgraph.json."""
    bare = folder / request.node.name
    bare.mkdir(mode=0o711)
    return bare
