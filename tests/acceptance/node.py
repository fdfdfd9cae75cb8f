"""Packages from npm, and tests that Node runs against a server."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from acceptance.system import System

PACKAGE = ("package.json", "package-lock.json")
INSTALL = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")


class NoPackages(Exception):
    """npm could not install what the lock file names."""


def is_installed() -> bool:
    return shutil.which("node") is not None and shutil.which("npm") is not None


def project(cache: pytest.Cache, sources: Path) -> Path:
    """The sources beside their packages, in pytest's cache: one installation per lock file."""
    wanted = b"".join((sources / name).read_bytes() for name in PACKAGE)
    folder = cache.mkdir(f"{sources.name}-{hashlib.sha256(wanted).hexdigest()[:12]}")
    shutil.copytree(sources, folder, dirs_exist_ok=True)
    if not (folder / "installed").exists():
        install(folder)
    return folder


def install(folder: Path) -> None:
    try:
        done = subprocess.run(INSTALL, cwd=folder, capture_output=True, text=True, timeout=110)
    except subprocess.TimeoutExpired as error:
        raise NoPackages(f"npm does not answer: {error}") from None
    if done.returncode != 0:
        raise NoPackages(done.stdout + done.stderr)
    (folder / "installed").touch()


def test(folder: Path, name: str, server: System, **env: str) -> None:
    """Run a file of tests for node:test; in one process, so that nothing is left when it is killed."""
    run(folder, "node", "--test-reporter=spec", name, TRELLIS_URL=server.url, **env)


def run(folder: Path, *command: str, **env: str) -> None:
    """Run a program to its end; fail with what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
