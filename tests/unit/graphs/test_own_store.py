from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from trellis.errors import ConfigError
from trellis.graphs import own_store
from trellis.graphs.manifest import Manifest
from unit.graphs.projects import GRAPH

SOURCE = """
import asyncio
from contextlib import asynccontextmanager, contextmanager
from langgraph.store.memory import InMemoryStore

class Mine(InMemoryStore):
    left_by = None

    async def __aenter__(self):
        self.entered_by = asyncio.current_task()
        return self

    async def __aexit__(self, *raised):
        self.left_by = asyncio.current_task()

plain = InMemoryStore()
instance = Mine()

def function():
    return Mine()

async def async_function():
    await asyncio.sleep(0)
    return Mine()

@asynccontextmanager
async def async_manager():
    async with Mine() as store:
        yield store

@contextmanager
def manager():
    yield Mine()

managed = async_manager()

async def generator():
    yield Mine()

def nothing():
    return None

async def raising():
    raise OSError("no such host")

def choosy(config):
    return Mine()

number = 5
"""


@pytest.fixture
def manifest_of(project: Callable[..., Manifest]) -> Callable[[str], Manifest]:
    def manifest_of(variable: str) -> Manifest:
        files = {"agent.py": GRAPH, "memory.py": SOURCE}
        return project(files, {"g": "./agent.py:graph"}, store={"path": f"./memory.py:{variable}"})

    return manifest_of


@pytest.mark.parametrize(
    "variable",
    [
        "plain",
        "instance",
        "Mine",
        "function",
        "async_function",
        "async_manager",
        "manager",
        "managed",
    ],
)
def test_open(manifest_of: Callable[[str], Manifest], variable: str) -> None:
    async def use() -> Any:
        opened = await own_store.open_(manifest_of(variable))
        assert opened is not None
        await opened.value.aput(("a",), "k", {"v": 1})
        item = await opened.value.aget(("a",), "k")
        await opened.close()
        return item

    assert asyncio.run(use()).value == {"v": 1}


def test_open__is_left_by_the_task_that_entered_it(
    manifest_of: Callable[[str], Manifest],
) -> None:
    async def use() -> Any:
        opened = await own_store.open_(manifest_of("async_manager"))
        assert opened is not None
        assert opened.value.left_by is None  # type: ignore[attr-defined]  # the test's own class
        await opened.close()
        return opened.value

    store = asyncio.run(use())
    assert store.left_by is store.entered_by


def test_open__none(project: Callable[..., Manifest]) -> None:
    manifest = project({"agent.py": GRAPH}, {"g": "./agent.py:graph"})

    assert asyncio.run(own_store.open_(manifest)) is None


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("nowhere", "memory.py has no 'nowhere'"),
        ("generator", "decorate it with @contextlib.asynccontextmanager"),
        ("number", "it is of type int, neither a BaseStore nor a function"),
        ("nothing", "it gave NoneType, which is no BaseStore"),
        ("raising", "OSError: no such host (memory.py:"),
        ("choosy", "missing 1 required positional argument: 'config'"),
    ],
)
def test_open__what_is_no_store(
    manifest_of: Callable[[str], Manifest], variable: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        asyncio.run(own_store.open_(manifest_of(variable)))

    assert '"store.path": ' in str(raised.value)
    assert message in str(raised.value)
