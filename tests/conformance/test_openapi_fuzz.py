"""What /openapi.json promises, held against a running server by schemathesis: every operation, every check."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceptance.system import System, running

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "langgraph.json"
RULES = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def server(
    new_database: Callable[[], str], new_redis: Callable[[], str], tmp_path: Path
) -> Iterator[System]:
    """The demonstration, with a worker that tells what its graphs are."""
    system = System(new_database(), new_redis(), tmp_path, env={"TRELLIS_CONFIG": str(DEMO)})
    with running(system):
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system


@pytest.mark.timeout(600)
def test_server__is_as_it_describes_itself(server: System, tmp_path: Path) -> None:
    """By its command: its plugin for pytest makes every request while tests are collected."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(RULES), "--no-color"]

    done = subprocess.run(
        [*command, "run", f"{server.url}/openapi.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-30_000:] + done.stderr
    assert re.search(r"Tested: [5-9]\d", done.stdout), done.stdout
