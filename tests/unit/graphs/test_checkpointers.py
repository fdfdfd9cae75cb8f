from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import pytest

from trellis.db.serde import serializer
from trellis.db.state_types import state_types
from trellis.domain.checkpointer import CheckpointerSettings
from trellis.errors import ConfigError
from trellis.graphs import checkpointers
from trellis.graphs import manifest as manifests
from trellis.graphs.registry import Registry
from unit.graphs.projects import GRAPH, compiled

Write = Callable[..., Any]

MEMORY = """
from dataclasses import dataclass

@dataclass
class Memory:
    text: str

memory = Memory("x")
"""


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        {"backend": "default", "path": None, "ttl": {"default_ttl": 5}},
        {"serde": {"pickle_fallback": False, "allowed_json_modules": None}},
    ],
)
def test_parse__nothing(raw: Any) -> None:
    assert checkpointers.parse("langgraph.json", raw) == CheckpointerSettings()


def test_parse() -> None:
    serde = {
        "allowed_msgpack_modules": [["shop.desk", "Order"]],
        "allowed_json_modules": [["shop", "desk", "Bill"]],
    }

    parsed = checkpointers.parse("langgraph.json", {"serde": serde})

    assert parsed.allowed == (("shop.desk", "Order"), ("shop.desk", "Bill"))


@pytest.mark.parametrize("backend", [{}, {"backend": None}, {"backend": "custom"}])
def test_parse__path(backend: dict[str, Any]) -> None:
    parsed = checkpointers.parse("langgraph.json", {**backend, "path": "./c.py:make"})

    assert parsed.path == "./c.py:make"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], '"checkpointer" takes an object'),
        ({"paht": "x"}, 'unknown key "paht"'),
        ({"path": 5}, '"checkpointer.path" takes a text'),
        ({"backend": "mongo"}, "'mongo' is not supported"),
        ({"backend": "mongo", "path": "./c.py:make"}, "'mongo' is not supported"),
        ({"backend": "custom"}, '"checkpointer.path" is missing'),
        ({"backend": "default", "path": "./c.py:make"}, 'needs the backend "custom"'),
        ({"serde": {"pickle_fallback": True}}, '"checkpointer.serde.pickle_fallback" takes false'),
        ({"serde": {"allowed_msgpack_modules": True}}, "true would let a checkpoint name any code"),
        ({"serde": {"allowed_json_modules": True}}, "true would let a checkpoint name any code"),
        ({"serde": {"allowed_msgpack_modules": ["shop.desk"]}}, "takes a list of classes"),
        ({"serde": {"allowed_msgpack_modules": [["a", "b", "C"]]}}, "takes a list of classes"),
        ({"serde": {"allowed_json_modules": [["C"]]}}, "takes a list of classes"),
    ],
    ids=str,
)
def test_parse__what_makes_no_sense(raw: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        checkpointers.parse("langgraph.json", raw)

    assert str(raised.value).startswith('langgraph.json: "checkpointer')
    assert message in str(raised.value)


@pytest.fixture
def registry(write: Write) -> Callable[..., Registry]:
    """The graphs of a project whose langgraph.json trusts a class."""

    def make(files: dict[str, str], *allowed: list[str]) -> Registry:
        content = {
            "graphs": {"g": "./agent.py:graph"},
            "checkpointer": {"serde": {"allowed_msgpack_modules": allowed}},
        }
        folder = write({**files, "langgraph.json": json.dumps(content)})
        return Registry(manifests.load(folder))

    return make


@pytest.mark.parametrize(
    ("files", "module"),
    [
        ({"agent.py": GRAPH + MEMORY}, "agent"),
        (
            {"agent.py": "from shop.desk import memory\n" + GRAPH, "shop/desk.py": MEMORY},
            "shop.desk",
        ),
    ],
    ids=["loose", "package"],
)
def test_trusted_class__comes_back_as_one(
    registry: Callable[..., Registry], files: dict[str, str], module: str
) -> None:
    graphs = registry(files, [module, "Memory"])
    graph = compiled(graphs, "g")
    memory = sys.modules[module if "." in module else "trellis_graphs.g"].memory
    stored = serializer().dumps_typed(memory)

    read = serializer(state_types(graph) | graphs.trusted).loads_typed(stored)

    assert is_dataclass(read)
    assert read == memory
    assert serializer(state_types(graph)).loads_typed(stored) == {"text": "x"}


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        (["agent", "Nobody"], "agent.py has no 'Nobody'"),
        (["agent", "memory"], "agent.memory is no class"),
        (["no.such", "Thing"], "No module named 'no'"),
    ],
)
def test_trusted_class__that_is_none(
    registry: Callable[..., Registry], allowed: list[str], message: str
) -> None:
    graphs = registry({"agent.py": GRAPH + MEMORY}, allowed)

    with pytest.raises(ConfigError) as raised:
        _ = graphs.trusted

    assert '"checkpointer.serde": ' in str(raised.value)
    assert message in str(raised.value)
