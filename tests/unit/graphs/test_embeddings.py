from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from trellis.errors import ConfigError
from trellis.graphs import embeddings
from trellis.graphs import manifest as manifests
from unit.graphs.projects import GRAPH

Write = Callable[..., Any]

SYNC = "def embed(texts):\n    return [[float(len(text)), 0.0] for text in texts]\n"
ASYNC = f"async {SYNC}"
OBJECT = """
class Length:
    def embed_documents(self, texts):
        return [[float(len(text)), 0.0] for text in texts]

    def embed_query(self, text):
        return [0.0, float(len(text))]

embed = Length()
number = 5
"""
LOOPS = """
import asyncio

loops = set()

async def embed(texts):
    loops.add(id(asyncio.get_running_loop()))
    return [[float(len(loops)), 1.0] for _ in texts]
"""

LEAVING = """
async def embed(texts):
    if texts == ["leave"]:
        raise SystemExit(3)
    return [[1.0, 0.0] for _ in texts]
"""


@pytest.fixture
def load(write: Write) -> Callable[..., Any]:
    """Load the index of a project of these files."""

    def load(files: dict[str, str], embed: str) -> Any:
        index = {"embed": embed, "dims": 2, "fields": ["text"]}
        content = {"graphs": {"g": "./agent.py:graph"}, "store": {"index": index}}
        folder = write({"agent.py": GRAPH, **files, "langgraph.json": json.dumps(content)})
        return embeddings.load(manifests.load(folder))

    return load


@pytest.mark.parametrize(
    ("file", "source", "embed"),
    [
        ("meaning.py", SYNC, "./meaning.py:embed"),
        ("meaning.py", ASYNC, "meaning.py:embed"),
        ("shop/meaning.py", ASYNC, "shop.meaning:embed"),
        ("meaning.py", SYNC, "meaning:embed"),
        ("agent.py", GRAPH + ASYNC, "./agent.py:embed"),
    ],
)
def test_load__a_function(load: Callable[..., Any], file: str, source: str, embed: str) -> None:
    index = load({file: source}, embed)

    assert (index.dims, list(index.fields)) == (2, ["text"])
    assert index.embeddings.embed_documents(["a", "bcd"]) == [[1.0, 0.0], [3.0, 0.0]]
    assert index.embeddings.embed_query("ab") == [2.0, 0.0]


def test_load__an_object(load: Callable[..., Any]) -> None:
    index = load({"meaning.py": OBJECT}, "./meaning.py:embed")

    assert index.embeddings.embed_documents(["a"]) == [[1.0, 0.0]]
    assert index.embeddings.embed_query("ab") == [0.0, 2.0]


def test_load__an_async_function_that_leaves(load: Callable[..., Any]) -> None:
    """Its loop goes on for the next one."""
    index = load({"meaning.py": LEAVING}, "./meaning.py:embed")

    with pytest.raises(RuntimeError, match=r"sys\.exit"):
        index.embeddings.embed_query("leave")
    assert index.embeddings.embed_query("stay") == [1.0, 0.0]


def test_load__an_async_function_always_runs_on_the_same_loop(load: Callable[..., Any]) -> None:
    index = load({"meaning.py": LOOPS}, "./meaning.py:embed")

    assert [index.embeddings.embed_query("x")[0] for _ in range(3)] == [1.0] * 3


def test_load__no_index(write: Write) -> None:
    folder = write({"langgraph.json": json.dumps({"graphs": {"g": "./agent.py:graph"}})})

    assert embeddings.load(manifests.load(folder)) is None


@pytest.mark.parametrize(
    ("embed", "message"),
    [
        ("./nowhere.py:embed", "there is no file nowhere.py"),
        ("./meaning.py:nothing", "meaning.py has no 'nothing'; it has: Length, embed, number"),
        ("./meaning.py:number", "it is of type int, neither embeddings nor a function"),
        ("./meaning.py:Length", "Length is a class; name an object or a function"),
        ("no.such.module:embed", "ModuleNotFoundError: No module named 'no'"),
        ("openai:text-embedding-3-small", "langchain is not installed"),
    ],
)
def test_load__what_is_not_there(load: Callable[..., Any], embed: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load({"meaning.py": OBJECT}, embed)

    assert '"store.index.embed": ' in str(raised.value)
    assert message in str(raised.value)
