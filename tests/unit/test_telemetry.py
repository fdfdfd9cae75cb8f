"""What processes say must never be what they fail of."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trellis import telemetry

SCRIPT = """
import os, sys
from types import SimpleNamespace
from trellis.telemetry import configure, log
configure(SimpleNamespace(log_json=False, log_color=False, log_level="INFO"))
log().info("before")
{trouble}
log().warning("during", error="{said}")
{relief}
log().info("after")
os._exit(7)
"""

ROOT = Path(__file__).parents[2]
FULL = 'kept = os.dup(1); os.dup2(os.open("/dev/full", os.O_WRONLY), 1)'
RELIEVED = "os.dup2(kept, 1)"


@pytest.mark.parametrize(
    ("trouble", "said", "relief", "lines"),
    [
        ("r, w = os.pipe(); os.close(r); os.dup2(w, 1)", "why", "", ["before"]),
        ("sys.stdout.close()", "why", "", ["before"]),
        ("", r"lone\ud800", "", ["before", "during", "after"]),
        (FULL, "why", RELIEVED, ["before", "after"]),
    ],
    ids=["nobody reads", "closed", "no character", "full disk"],
)
def test_log__goes_nowhere(trouble: str, said: str, relief: str, lines: list[str]) -> None:
    script = SCRIPT.format(trouble=trouble, said=said, relief=relief)

    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 7, ended.stderr
    assert [name for name in ("before", "during", "after") if name in ended.stdout] == lines


def test_events__are_those_of_the_manual() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| (`[a-z]+\.[^|]*) \|", manual, re.MULTILINE)

    said = [value for name, value in vars(telemetry).items() if name.isupper()]

    assert sorted(re.findall(r"`(.+?)`", " ".join(rows))) == sorted(said)


def test_events__are_those_of_the_program() -> None:
    files = [path for top in ("app", "workers") for path in (ROOT / top).rglob("*.py")]
    calls = [
        node
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and re.fullmatch(r"(telemetry\.)?log\(\)\.\w+", ast.unparse(node.func))
    ]

    said = {ast.unparse(call.args[0]).removeprefix("telemetry.") for call in calls}

    assert said == {name for name in vars(telemetry) if name.isupper()}
