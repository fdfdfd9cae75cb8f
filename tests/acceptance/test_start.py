"""How processes start: the web quickly and without the user's world; all of them say what is missing."""

import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from acceptance.system import READY_SECONDS, System
from trellis.dev.process import any_port


@pytest.fixture
def other(server: System, tmp_path: Path) -> Iterator[System]:
    """Room for more processes on the server's database and Redis."""
    other = replace(server, port=any_port(), processes=[], logs=tmp_path)
    yield other
    other.kill()


def test_web__imports_no_langgraph_at_start(other: System) -> None:
    web = other.start("web", python=("-X", "importtime"))
    web.wait_until(other.is_up, what="answering")
    web.stop()

    imported = set(re.findall(r"^import time:.*\|\s*([\w.]+)$", web.said(), re.MULTILINE))

    assert "trellis.asgi" in imported
    assert {name for name in imported if name.startswith(("langgraph", "langchain"))} == set()


def test_web__says_where_it_listens(server: System) -> None:
    [web] = [process for process in server.processes if process.name.startswith("web")]

    assert server.url in web.said()


def test_two_webs__tell_the_same(server: System, other: System) -> None:
    other.start_web()
    body = {"assistant_id": "compiled", "input": {"said": []}}
    thread_id = server.new_thread()

    values = other.post(f"/threads/{thread_id}/runs/wait", body)

    assert server.get(f"/threads/{thread_id}")["values"] == values
    other.stop()


def test_web__says_where_it_crashed(other: System) -> None:
    web = other.start_web()

    web.popen.send_signal(signal.SIGSEGV)

    assert web.ends() == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in web.said()
    assert "asgi.py" in web.said()


def test_start__names_the_variable_that_is_wrong(other: System) -> None:
    wrong = {"DATABASE_URL": "", "REDIS_URL": "http://x", "LOG_LEVEL": "LOUD"}
    webs = [other.start("web", **{variable: value}) for variable, value in wrong.items()]
    rest = [other.start(command, DATABASE_URL="") for command in ("worker", "migrate", "flower")]

    for variable, process in zip([*wrong, *["DATABASE_URL"] * 3], webs + rest, strict=True):
        assert process.ends(seconds=READY_SECONDS) == 2
        assert variable in process.said()
        assert "Traceback" not in process.said()


def test_start__names_the_manifest_that_is_wrong(other: System, tmp_path: Path) -> None:
    manifest = tmp_path / "langgraph.json"
    manifest.write_text('{"graphs": {"a": 5}}')

    started = [other.start(command, TRELLIS_CONFIG=str(manifest)) for command in ("web", "worker")]

    for process in started:
        assert process.ends(seconds=READY_SECONDS) == 2
        assert f'{manifest}: "graphs.a"' in process.said()
        assert "Traceback" not in process.said()


def test_check__names_the_graph_that_is_broken(other: System) -> None:
    check = other.start("check")

    assert check.ends(seconds=READY_SECONDS) == 1
    broken = [line for line in check.said().splitlines() if "broken" in line]
    assert any("broken.py:3" in line and "no such graph" in line for line in broken)
    assert "context_manager" in check.said()
