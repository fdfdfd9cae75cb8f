from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.graphs import check
from trellis.graphs.manifest import Manifest
from unit.graphs.projects import GRAPH

Project = Callable[..., Manifest]


def test_run(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "agent.py": GRAPH + "async def make(runtime):\n    return builder\n",
        "shop/desk.py": "from agent import graph",
    }
    graphs = {"agent": "./agent.py:graph", "made": "./agent.py:make", "d": "shop/desk.py:graph"}
    manifest = project(files, graphs)

    code = check.run(manifest.path)

    assert code == 0
    assert capsys.readouterr().out.splitlines() == [
        str(manifest.path),
        "",
        "✓ agent  compiled graph  agent.py:12",
        "✓ made   async factory   agent.py:13",
        "✓ d      compiled graph  shop/desk.py",
        "",
        "All 3 graphs can be served.",
    ]


def test_run__with_failures(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "good.py": GRAPH,
        "bad.py": "import no_such_thing",
        "late.py": "def graph():\n    raise ValueError('one\\ntwo')",
    }
    graphs = {name[:-3]: f"./{name}:graph" for name in files}
    manifest = project(files, graphs, env=".env")

    code = check.run(manifest.path)

    assert code == 1
    assert capsys.readouterr().out.splitlines()[2:] == [
        "✓ good  compiled graph  good.py:12",
        "✗ bad   ModuleNotFoundError: No module named 'no_such_thing' (bad.py:1)",
        "✗ late  ValueError: one two (late.py:2)",
        '! "env": there is no file .env; no variable was taken from it',
        "",
        "1 of 3 graphs can be served.",
    ]


def test_run__nonsense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = check.run(tmp_path)

    assert code == 1
    assert capsys.readouterr().out.startswith(f"✗ {tmp_path / 'langgraph.json'}: no such file")


def test_run__a_module_that_runs_a_loop(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{GRAPH}\nimport asyncio\nasyncio.run(asyncio.sleep(0))\n"

    assert check.run(project({"agent.py": text}, {"agent": "./agent.py:graph"}).path) == 0
    assert "The graph can be served." in capsys.readouterr().out


def test_run__in_a_terminal_without_check_marks(
    project: Project, python: Callable[..., str]
) -> None:
    project(
        {"agent.py": GRAPH, "bad.py": "1 / 0"}, {"é": "./agent.py:graph", "b": "./bad.py:graph"}
    )

    printed = python("from trellis.graphs import check; check.run(None)", PYTHONIOENCODING="ascii")

    assert "ok \\xe9  compiled graph  agent.py:12" in printed
    assert "FAIL b  ZeroDivisionError" in printed


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("store", {"index": {"embed": "./agent.py:embed", "dims": 3}}, "has no 'embed'"),
        (
            "checkpointer",
            {"serde": {"allowed_msgpack_modules": [["agent", "Order"]]}},
            "has no 'Order'",
        ),
        ("store", {"path": "./agent.py:memory"}, "has no 'memory'"),
        ("checkpointer", {"path": "./agent.py:keeper"}, "has no 'keeper'"),
        ("priority", {"path": "./agent.py:hook"}, "has no 'hook'"),
    ],
)
def test_run__what_else_langgraph_json_names(
    project: Project, capsys: pytest.CaptureFixture[str], key: str, value: Any, message: str
) -> None:
    manifest = project({"agent.py": GRAPH}, {"agent": "./agent.py:graph"}, **{key: value})

    assert check.run(manifest.path) == 1
    assert message in capsys.readouterr().out
