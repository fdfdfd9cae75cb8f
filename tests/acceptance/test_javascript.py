"""The official JavaScript client, run by Node's own test runner against the server."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from acceptance.system import System

SOURCES = Path(__file__).with_name("js")
PACKAGE = ("package.json", "package-lock.json")
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


@pytest.fixture(scope="module")
def project(pytestconfig: pytest.Config) -> Path:
    """The tests beside the installed client, in pytest's cache: one installation per lock file."""
    if not IN_CI and (shutil.which("node") is None or shutil.which("npm") is None):
        pytest.skip("Node is not installed")
    wanted = b"".join((SOURCES / name).read_bytes() for name in PACKAGE)
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir(f"javascript-{hashlib.sha256(wanted).hexdigest()[:12]}")
    if not (folder / "installed").exists():
        install(folder)
    for source in SOURCES.glob("*.mjs"):
        shutil.copy(source, folder)
    return folder


def install(folder: Path) -> None:
    for name in PACKAGE:
        shutil.copy(SOURCES / name, folder)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "installed").touch()


@pytest.mark.parametrize("name", sorted(path.name for path in SOURCES.glob("*.test.mjs")))
def test_javascript(project: Path, server: System, name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", name],
        cwd=project,
        env={**os.environ, "TRELLIS_URL": server.url, "COURSE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
    )

    assert done.returncode == 0, done.stdout + done.stderr
