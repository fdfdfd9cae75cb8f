from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from trellis.errors import ConfigError
from trellis.graphs import manifest as manifests
from trellis.graphs import own_checkpointer, plugs
from trellis.graphs.manifest import Manifest
from unit.graphs.projects import GRAPH

SOURCE = """
from contextlib import asynccontextmanager
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

plain = InMemorySaver()

async def function():
    return InMemorySaver()

@asynccontextmanager
async def manager():
    yield InMemorySaver()
    print("left")

@asynccontextmanager
async def memory():
    yield InMemoryStore()
    print("store left")

class Half(BaseCheckpointSaver):
    async def aput(self, *args):
        ...

    async def aget_tuple(self, config):
        ...

def store():
    return InMemoryStore()
"""


@pytest.fixture
def manifest_of(project: Callable[..., Manifest]) -> Callable[..., Manifest]:
    def manifest_of(variable: str, **keys: Any) -> Manifest:
        files = {"agent.py": GRAPH, "keeper.py": SOURCE}
        path = {"path": f"./keeper.py:{variable}"}
        return project(files, {"g": "./agent.py:graph"}, checkpointer=path, **keys)

    return manifest_of


@pytest.mark.parametrize("variable", ["plain", "function", "manager"])
def test_open(
    manifest_of: Callable[..., Manifest], variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def use() -> Any:
        opened = await own_checkpointer.open_(manifest_of(variable))
        assert opened is not None
        await opened.close()
        return opened.value

    assert isinstance(asyncio.run(use()), InMemorySaver)
    assert ("left" in capsys.readouterr().out) == (variable == "manager")


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("nowhere", "keeper.py has no 'nowhere'"),
        ("Half", "Half lacks aput_writes, adelete_thread"),
        ("store", "it gave InMemoryStore, which is no BaseCheckpointSaver"),
    ],
)
def test_open__what_is_no_checkpointer(
    manifest_of: Callable[..., Manifest], variable: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        asyncio.run(own_checkpointer.open_(manifest_of(variable)))

    assert '"checkpointer.path": ' in str(raised.value)
    assert message in str(raised.value)


def test_open__closes_the_store_if_the_checkpointer_does_not_open(
    manifest_of: Callable[..., Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = manifest_of("Half", store={"path": "./keeper.py:memory"})

    with pytest.raises(ConfigError):
        asyncio.run(plugs.open_(manifest))

    assert "store left" in capsys.readouterr().out


@pytest.mark.parametrize("by", ["key", "handlers"])
def test_load__not_with_encryption(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    content: dict[str, Any] = {
        "graphs": {"g": "./agent.py:graph"},
        "checkpointer": {"path": "./keeper.py:plain"},
    }
    if by == "key":
        monkeypatch.setenv("LANGGRAPH_AES_KEY", "k" * 32)
    else:
        content["encryption"] = {"path": "./agent.py:handlers"}
    folder = write({"langgraph.json": json.dumps(content)})

    with pytest.raises(ConfigError, match=r'"checkpointer.path" and encryption'):
        manifests.load(folder)
