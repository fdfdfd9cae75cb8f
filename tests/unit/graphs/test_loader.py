from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trellis.errors import GraphLoadError
from trellis.graphs import loader
from trellis.graphs import manifest as manifests
from trellis.graphs.manifest import Manifest

Project = Callable[..., Manifest]
Python = Callable[..., str]

#: Loads the graph `agent` of the current folder and prints what it is.
LOAD = """
from trellis.graphs import loader, manifest

m = manifest.load()
found = loader.import_target(m, m.graphs["agent"])
"""


def value_of(manifest: Manifest, graph_id: str = "agent") -> Any:
    return loader.import_target(manifest, manifest.graphs[graph_id]).value


def reason_of(manifest: Manifest, graph_id: str = "agent") -> str:
    with pytest.raises(GraphLoadError) as raised:
        loader.import_target(manifest, manifest.graphs[graph_id])
    assert raised.value.graph_id == graph_id
    return raised.value.reason


@pytest.mark.parametrize(
    ("files", "target", "name"),
    [
        ({"agent.py": "g = __name__"}, "./agent.py:g", "trellis_graphs.agent"),
        ({"ns_app/graph.py": "g = __name__"}, "./ns_app/graph.py:g", "ns_app.graph"),
        (
            {"pk_app/__init__.py": "", "pk_app/graph.py": "g = __name__"},
            "pk_app/graph.py:g",
            "pk_app.graph",
        ),
        ({"in_app/__init__.py": "g = __name__"}, "in_app/__init__.py:g", "in_app"),
        (
            {"deep_app/a/__init__.py": "", "deep_app/a/graph.py": "g = __name__"},
            "deep_app/a/graph.py:g",
            "deep_app.a.graph",
        ),
        (
            {"src/lay_app/__init__.py": "", "src/lay_app/graph.py": "g = __name__"},
            "./src/lay_app/graph.py:g",
            "lay_app.graph",
        ),
        ({"src/nsl_app/graph.py": "g = __name__"}, "./src/nsl_app/graph.py:g", "nsl_app.graph"),
        ({"my-app/graph.py": "g = __name__"}, "./my-app/graph.py:g", "trellis_graphs.agent"),
        ({"class/graph.py": "g = __name__"}, "./class/graph.py:g", "trellis_graphs.agent"),
        ({"mod_app/graph.py": "g = __name__"}, "mod_app.graph:g", "mod_app.graph"),
        ({"src/mod_lay/graph.py": "g = __name__"}, "mod_lay.graph:g", "mod_lay.graph"),
    ],
)
def test_import_target__is_called_as_in_its_project(
    project: Project, files: Mapping[str, str], target: str, name: str
) -> None:
    assert value_of(project(files, {"agent": target})) == name


def test_import_target__from_a_dependency(project: Project) -> None:
    files = {
        "libs/one/dep_app/graph.py": "from dep_two import X as g",
        "libs/two/dep_two.py": "X = 7",
    }
    manifest = project(
        files, {"agent": "libs/one/dep_app/graph.py:g"}, dependencies=["libs/one", "./libs/two"]
    )

    assert value_of(manifest) == 7


def test_import_target__from_a_dependency_that_is_a_package(project: Project) -> None:
    files = {
        "pdep_app/__init__.py": "",
        "pdep_app/parts/x.py": "X = 7",
        "pdep_app/parts/graph.py": "from ..parts.x import X\ng = X, __name__",
    }
    manifest = project(files, {"agent": "pdep_app/parts/graph.py:g"}, dependencies=["./pdep_app"])

    assert value_of(manifest) == (7, "pdep_app.parts.graph")


def test_import_target__outside_of_the_folder(
    write: Callable[[Mapping[str, str]], Path],
) -> None:
    root = write(
        {
            "out_lib/__init__.py": "",
            "out_lib/part.py": "X = 7",
            "out_lib/graph.py": "from out_lib.part import X\nfrom .part import X as g",
            "service/langgraph.json": '{"graphs": {"agent": "../out_lib/graph.py:g"}}',
        }
    )

    assert value_of(manifests.load(root / "service")) == 7


def test_import_target__neighbours_of_a_loose_file(project: Project) -> None:
    files = {
        "agent.py": "from neighbour import A\nfrom .neighbour import B\ng = A + B",
        "neighbour.py": "A = 1\nB = 2",
    }

    assert value_of(project(files, {"agent": "./agent.py:g"})) == 3


def test_import_target__two_graphs_of_a_loose_file_share_it(project: Project) -> None:
    manifest = project(
        {"agent.py": "a = object()\nb = a"}, {"my-1": "./agent.py:a", "my-2": "agent.py:b"}
    )

    # The second first: the name of the module must not depend on which graph a process loads first.
    second = value_of(manifest, "my-2")

    assert value_of(manifest, "my-1") is second
    assert sys.modules["trellis_graphs.my_2d_1"].b is second


def test_import_target__two_projects_name_a_graph_alike(
    project: Project, write: Callable[[Mapping[str, str]], Path]
) -> None:
    first = project({"agent.py": "g = 1"}, {"agent": "./agent.py:g"})
    write(
        {"other/agent.py": "g = 2", "other/langgraph.json": '{"graphs": {"agent": "./agent.py:g"}}'}
    )
    second = manifests.load(first.root / "other")

    assert [value_of(first), value_of(second), value_of(first)] == [1, 2, 1]


def test_import_target__is_the_module_that_the_project_imports(project: Project) -> None:
    files = {
        "same_app/__init__.py": "",
        "same_app/graph.py": "from same_app import state\ng = state.NAMES",
        "same_app/state.py": "NAMES = []",
    }
    manifest = project(files, {"agent": "same_app/graph.py:g"})

    found = value_of(manifest)

    assert found is sys.modules["same_app.state"].NAMES
    assert sys.modules["same_app.graph"].g is found


def test_import_target__tells_where_it_stands(tmp_path: Path, project: Project) -> None:
    manifest = project({"agent.py": "import os\n\ng = 1\n"}, {"agent": "./agent.py:g"})

    found = loader.import_target(manifest, manifest.graphs["agent"])

    assert (found.value, found.file, found.line) == (1, tmp_path / "agent.py", 3)


def test_import_target__sees_the_manifests_variables(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAKEN", "platform")
    manifest = project(
        {"agent.py": "import os\ng = os.environ['TAKEN'], os.environ['FREE']"},
        {"agent": "./agent.py:g"},
        env={"TAKEN": "file", "FREE": "file"},
    )

    assert value_of(manifest) == ("platform", "file")


def test_prepare__appends_and_only_once(tmp_path: Path, project: Project) -> None:
    manifest = project({"src/x.py": ""}, {"agent": "./src/x.py:g"}, dependencies=["."])
    before = list(sys.path)

    loader.prepare(manifest)
    loader.prepare(manifest)

    assert sys.path == [*before, str(tmp_path), str(tmp_path / "src")]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"agent.py": "import os\nimport no_such_thing"},
            "ModuleNotFoundError: No module named 'no_such_thing' (agent.py:2)",
        ),
        ({"agent.py": "\n1 / 0"}, "ZeroDivisionError: division by zero (agent.py:2)"),
        ({"agent.py": "x = 1\ndef ("}, "SyntaxError: invalid syntax (agent.py:2)"),
        (
            {"agent.py": "import broken_part", "broken_part.py": "\n\nif True:\npass"},
            "IndentationError: expected an indented block after 'if' statement on line 3 "
            "(broken_part.py:4)",
        ),
        (
            {
                "agent.py": "import calling\ncalling.f()",
                "calling.py": "def f():\n  raise KeyError('k')",
            },
            "KeyError: 'k' (calling.py:2)",
        ),
        (
            {"agent.py": "import json\njson.loads('{')"},
            "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1) (agent.py:2)",
        ),
        ({"agent.py": "import sys\nsys.exit('no key')"}, "SystemExit: no key (agent.py:2)"),
        (
            {"agent.py": "from typing import Any\n_hidden = 1\nbuilder = 1\nmade: int = 2"},
            "agent.py has no 'graph'; it has: builder, made",
        ),
        ({"agent.py": ""}, "agent.py has no 'graph'; it has: nothing"),
    ],
)
def test_import_target__fails(project: Project, files: Mapping[str, str], reason: str) -> None:
    found = reason_of(project(files, {"agent": "./agent.py:graph"}))

    assert found == reason


def test_import_target__no_such_file(tmp_path: Path, project: Project) -> None:
    found = reason_of(project({}, {"agent": "./nope/agent.py:graph"}))

    assert found == f"there is no file nope/agent.py in {tmp_path}"


def test_import_target__no_such_module(project: Project) -> None:
    found = reason_of(project({}, {"agent": "no_such.module:graph"}))

    assert found == "ModuleNotFoundError: No module named 'no_such'"


def test_import_target__in_a_package_that_fails(project: Project) -> None:
    files = {"bad_app/__init__.py": "\nraise ValueError('no')", "bad_app/graph.py": "graph = 1"}

    found = reason_of(project(files, {"agent": "./bad_app/graph.py:graph"}))

    assert found == "ValueError: no (bad_app/__init__.py:2)"


def test_import_target__an_exception_that_cannot_be_printed(project: Project) -> None:
    files = {
        "agent.py": """
            class Bad(Exception):
                def __str__(self):
                    raise RuntimeError
            raise Bad()
        """
    }

    assert "Bad: <exception str() failed>" in reason_of(project(files, {"agent": "agent.py:graph"}))


def test_import_target__after_a_failure_leaves_no_half_module(project: Project) -> None:
    manifest = project({"agent.py": "x = 1\n1 / 0"}, {"agent": "./agent.py:x"})

    reason_of(manifest)

    assert "ZeroDivisionError" in reason_of(manifest)


@pytest.mark.parametrize("package", [True, False], ids=["package", "namespace"])
@pytest.mark.parametrize("first", ["checkout", "user", "neither"])
@pytest.mark.parametrize("target", ["./app/graph.py:graph", "app.graph:graph"])
def test_import_target__the_users_app(
    project: Project, python: Python, tmp_path: Path, package: bool, first: str, target: str
) -> None:
    """`app` and `workers` are folders of a checkout of ours too, and may stand first on sys.path."""
    checkout = tmp_path.parent / f"{tmp_path.name}-checkout"
    for name in ("app/trellis_stand_in", "workers/trellis_workers_stand_in"):
        (checkout / name).mkdir(parents=True)
    files = {
        "app/graph.py": "from app.tools import TOOL\nfrom workers.deep import DEEP\ngraph = TOOL + DEEP",
        "app/tools.py": "TOOL = 'tool '",
        "workers/deep.py": "DEEP = 'deep'",
    }
    if package:
        files |= {"app/__init__.py": "", "workers/__init__.py": ""}
    project(files, {"agent": target})
    path = {"checkout": (checkout, tmp_path), "user": (tmp_path, checkout), "neither": ()}[first]

    printed = python(
        f"{LOAD}\nimport app.graph as own\nprint(found.value, own.__name__)", path=path
    )

    assert printed == "tool deep app.graph"


@pytest.mark.parametrize("target", ["./app/graph.py:graph", "app.graph:graph"])
def test_import_target__the_users_app_after_ours_was_imported(
    project: Project, python: Python, tmp_path: Path, target: str
) -> None:
    checkout = tmp_path.parent / f"{tmp_path.name}-checkout"
    (checkout / "app" / "trellis_stand_in").mkdir(parents=True)
    files = {
        "app/__init__.py": "",
        "app/graph.py": "from app.tools import TOOL as graph",
        "app/tools.py": "TOOL = 'tool'",
    }
    project(files, {"agent": target})

    printed = python(f"import app\n{LOAD}\nprint(found.value)", path=(checkout,))

    assert printed == "tool"


def test_import_target__a_file_called_redis(project: Project, python: Python) -> None:
    files = {"redis.py": "import redis as library\ngraph = library.Redis.__module__"}
    project(files, {"agent": "./redis.py:graph"})

    printed = python(
        f"{LOAD}\nimport redis, celery, kombu\nprint(found.value, redis.Redis.__name__)"
    )

    assert printed == "redis.client Redis"


def test_import_target__beside_a_file_called_redis(project: Project, python: Python) -> None:
    files = {
        "agent.py": "import redis\ngraph = redis.Redis.__name__",
        "redis.py": "raise SystemError",
    }
    project(files, {"agent": "./agent.py:graph"})

    assert python(f"{LOAD}\nprint(found.value)") == "Redis"


def test_import_target__a_folder_with_the_name_of_a_library(
    project: Project, python: Python
) -> None:
    files = {"flask/graph.py": "from .part import X as graph", "flask/part.py": "X = 'mine'"}
    project(files, {"agent": "./flask/graph.py:graph"})

    printed = python(f"{LOAD}\nimport flask\nprint(found.value, flask.Flask.__name__)")

    assert printed == "mine Flask"


@pytest.mark.parametrize(
    ("files", "target"),
    [
        ({"redis.py": "graph = 1"}, "redis:graph"),
        ({"flask/__init__.py": "", "flask/tool.py": "graph = 1"}, "flask.tool:graph"),
        ({"agent.py": "from redis import graph", "redis.py": "graph = 1"}, "agent.py:graph"),
        ({"agent.py": "import redis\nredis.graph", "redis.py": "graph = 1"}, "agent.py:graph"),
        (
            {"flask/graph.py": "from flask.tools import graph", "flask/tools.py": "graph = 1"},
            "flask/graph.py:graph",
        ),
    ],
)
def test_import_target__a_clash_names_both_files(
    project: Project, python: Python, tmp_path: Path, files: Mapping[str, str], target: str
) -> None:
    project(files, {"agent": target})
    load = "\n    ".join(LOAD.splitlines())

    printed = python(
        f"""from trellis.errors import GraphLoadError
try:
    {load}
except GraphLoadError as error:
    print(error.reason)
"""
    )

    assert "site-packages" in printed
    assert f"not your {tmp_path}" in printed
    assert printed.endswith("rename yours")


def test_import_target__no_clash_is_made_up(project: Project) -> None:
    files = {"own_app/graph.py": "from own_app.nope import x"}

    found = reason_of(project(files, {"agent": "./own_app/graph.py:graph"}))

    assert found == "ModuleNotFoundError: No module named 'own_app.nope' (own_app/graph.py:1)"
