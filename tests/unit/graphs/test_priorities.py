from __future__ import annotations

from collections.abc import Callable

import pytest

from trellis.errors import ConfigError
from trellis.graphs import priorities
from trellis.graphs.manifest import Manifest
from unit.graphs.projects import GRAPH

pytestmark = pytest.mark.filterwarnings("ignore:The Priority API is in beta")

SOURCE = """
from langgraph_sdk import Priority

hook = Priority()
empty = Priority()

@hook.assign
async def assign(ctx):
    return {"priority": -1}
"""


@pytest.fixture
def manifest_of(project: Callable[..., Manifest]) -> Callable[[str], Manifest]:
    def manifest_of(path: str) -> Manifest:
        files = {"agent.py": GRAPH, "urgency.py": SOURCE}
        return project(files, {"g": "./agent.py:graph"}, priority={"path": path})

    return manifest_of


def test_load(manifest_of: Callable[[str], Manifest]) -> None:
    hook = priorities.load(manifest_of("./urgency.py:hook"))

    assert hook is not None
    assert hook.__name__ == "assign"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./nowhere.py:hook", '"priority.path": there is no file nowhere.py'),
        ("./urgency.py:assign", '"priority.path": assign is no langgraph_sdk.Priority'),
        ("./urgency.py:empty", '"priority.path": empty has no function'),
        ("urgency", '"priority.path" takes'),
    ],
)
def test_load__what_is_no_hook(
    manifest_of: Callable[[str], Manifest], path: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        priorities.load(manifest_of(path))

    assert message in str(raised.value)


@pytest.mark.parametrize("priority", [5, {"path": 5}, {"paths": "x"}], ids=str)
def test_load__what_makes_no_sense(project: Callable[..., Manifest], priority: object) -> None:
    with pytest.raises(ConfigError, match='"priority'):
        project({"agent.py": GRAPH}, {"g": "./agent.py:graph"}, priority=priority)


def test_load__none(project: Callable[..., Manifest]) -> None:
    assert priorities.load(project({"agent.py": GRAPH}, {"g": "./agent.py:graph"})) is None
