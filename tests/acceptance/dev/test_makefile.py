import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(checkout: Path, *targets: str, path: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": path, "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        ["make", *targets], cwd=checkout, env=env, capture_output=True, text=True, timeout=110
    )


def test_make(checkout: Path) -> None:
    answer = make(checkout, path=os.environ["PATH"])

    for target in [
        "help",
        "install",
        "dev",
        "demo",
        "test",
        "browser",
        "check",
        "bench",
        "chaos",
        "soak",
        "clean",
    ]:
        assert f"make {target} " in answer.stdout


def test_make_venv__past_a_python_that_does_not_run(checkout: Path) -> None:
    programs = checkout / "bin"
    programs.mkdir()
    shim = programs / "python3"
    shim.write_text("#!/bin/sh\necho 'pyenv: version 3.12 is not installed' >&2\nexit 1\n")
    shim.chmod(0o755)

    answer = make(checkout, "venv", path=f"{programs}:{os.environ['PATH']}")

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("Making .venv with Python 3.1")
    version = "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))"
    subprocess.run([checkout / ".venv" / "bin" / "python", "-c", version], check=True)
    assert make(checkout, "venv", path=os.environ["PATH"]).stdout == ""
