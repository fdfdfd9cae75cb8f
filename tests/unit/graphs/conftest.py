"""Small user projects, written to disk and forgotten after the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trellis.graphs import manifest as manifests
from trellis.graphs.registry import Registry
from unit.graphs.projects import GRAPH

Project = Callable[..., manifests.Manifest]


@pytest.fixture(autouse=True)
def _forget_the_project(tmp_path: Path) -> Iterator[None]:
    path, environ = list(sys.path), dict(os.environ)
    # Tests of other folders, in this process, load graphs of the same ids from projects of their own.
    others = _take_modules(tmp_path)
    yield
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environ)
    _take_modules(tmp_path)
    sys.modules.update(others)


def _take_modules(folder: Path) -> dict[str, ModuleType]:
    """Forget the modules of a project, and all that have no name but their graph's."""
    return {
        name: sys.modules.pop(name)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "trellis_graphs"
        or (getattr(module, "__file__", None) or "").startswith(str(folder))
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    def write(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        return tmp_path

    return write


@pytest.fixture
def project(write: Callable[[Mapping[str, str]], Path]) -> Project:
    """Write files and a langgraph.json, and load it. Keys other than `graphs` may be added."""

    def project(
        files: Mapping[str, str], graphs: Mapping[str, Any], **keys: Any
    ) -> manifests.Manifest:
        root = write(files)
        (root / "langgraph.json").write_text(json.dumps({"graphs": graphs, **keys}))
        return manifests.load(root)

    return project


@pytest.fixture
def registry_of(project: Project) -> Callable[..., Registry]:
    """A registry of one file, `agent.py`, whose graph is called `agent`."""

    def registry_of(text: str, *, variable: str = "graph", **keys: Any) -> Registry:
        files = {"agent.py": GRAPH + textwrap.dedent(text)}
        return Registry(project(files, {"agent": f"./agent.py:{variable}"}, **keys))

    return registry_of


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """
    Run code in a process of its own, `path` first on its sys.path; returns what it prints.

    With -P, because a console script such as `trellis` has no current folder on its sys.path either.
    """

    def python(code: str, *, path: tuple[Path, ...] = (), **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-c", textwrap.dedent(code)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **env},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return python
