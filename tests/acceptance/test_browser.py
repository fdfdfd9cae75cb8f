"""`useStream` in React pages, in a headless Chromium, against the server: `make browser`."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from acceptance import node
from acceptance.system import System

SOURCES = Path(__file__).with_name("browser")
PAGES = ("classic.jsx", "v2.jsx")
#: One's own, then the names that systems give it.
CHROMIUM = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
REQUIRED = "TRELLIS_TEST_BROWSER" in os.environ


def missing(what: str) -> NoReturn:
    if REQUIRED:
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in CHROMIUM:
        if found := shutil.which(name):
            return found
    missing("Chromium is not installed; on Debian: apt-get install chromium")


@pytest.fixture(scope="session")
def project(pytestconfig: pytest.Config, chromium: str) -> Path:
    """The tests beside the built pages."""
    if not node.is_installed():
        missing("Node is not installed")
    assert pytestconfig.cache is not None
    try:
        folder = node.project(pytestconfig.cache, SOURCES)
    except node.NoPackages as error:
        missing(f"npm cannot install the packages: {error}")
    shutil.copy(SOURCES.parent / "js" / "course.mjs", folder)
    options = ("--bundle", "--outdir=www", "--jsx=automatic", "--log-level=warning")
    node.run(folder, "node_modules/.bin/esbuild", *PAGES, *options)
    return folder


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(path.name for path in SOURCES.glob("*.test.mjs")))
def test_use_stream(
    project: Path, chromium: str, server: System, name: str, tmp_path: Path
) -> None:
    node.test(project, name, server, COURSE=str(tmp_path), CHROMIUM=chromium)
