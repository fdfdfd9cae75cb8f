"""The official JavaScript client, run by Node's own test runner against the server."""

import os
from pathlib import Path

import pytest

from acceptance import node
from acceptance.system import System

SOURCES = Path(__file__).with_name("js")
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


@pytest.fixture(scope="module")
def project(pytestconfig: pytest.Config) -> Path:
    if not IN_CI and not node.is_installed():
        pytest.skip("Node is not installed")
    assert pytestconfig.cache is not None
    return node.project(pytestconfig.cache, SOURCES)


@pytest.mark.parametrize("name", sorted(path.name for path in SOURCES.glob("*.test.mjs")))
def test_javascript(project: Path, server: System, name: str, tmp_path: Path) -> None:
    node.test(project, name, server, COURSE=str(tmp_path))
