"""Every kind of graph that langgraph.json may name, and one that fails to import."""

from pathlib import Path
from typing import Any

import pytest

from acceptance.system import System

WORDS = {
    "compiled": "compiled",
    "builder": "builder",
    "factory": "factory",
    "async_factory": "async factory",
    "config_factory": "no word",
    "runtime_factory": "threads.create_run",
    "both_factory": "no word, executed",
    "context_manager": "context manager",
    "described": "compiled",
}


@pytest.mark.parametrize(("graph_id", "word"), WORDS.items())
def test_run(sync_client: Any, graph_id: str, word: str, thread_id: str) -> None:
    values = sync_client.runs.wait(thread_id, graph_id, input={"said": []})

    assert values == {"said": [word]}


@pytest.mark.parametrize("graph_id", WORDS)
def test_state(sync_client: Any, graph_id: str, thread_id: str) -> None:
    sync_client.runs.wait(thread_id, graph_id, input={"said": []})

    state = sync_client.threads.get_state(thread_id)

    assert state["values"] == {"said": [WORDS[graph_id]]}
    assert state["next"] == []


@pytest.mark.parametrize(("graph_id", "word"), [("module", "app.agent"), ("redis", "redis.py")])
def test_run__beside_names_of_ours(sync_client: Any, graph_id: str, word: str) -> None:
    assert sync_client.runs.wait(None, graph_id, input={}) == {"said": word}


def test_run__entrypoint_remembers(sync_client: Any, thread_id: str) -> None:
    assert sync_client.runs.wait(thread_id, "entrypoint", input=2) == {"total": 2}
    assert sync_client.runs.wait(thread_id, "entrypoint", input=40) == {"total": 42}


def test_run__factory_is_told_the_config(sync_client: Any) -> None:
    config = {"configurable": {"word": "hello"}}

    said = [
        sync_client.runs.wait(None, graph_id, input={"said": []}, config=config)["said"]
        for graph_id in ("config_factory", "both_factory")
    ]

    assert said == [["hello"], ["hello, executed"]]


def test_run__context_manager_is_left_after_each_run(
    sync_client: Any, thread_id: str, tmp_path: Path
) -> None:
    config = {"configurable": {"journal": str(tmp_path / "journal")}}

    for _ in range(2):
        sync_client.runs.wait(thread_id, "context_manager", input={"said": []}, config=config)

    notes = (tmp_path / "journal").read_text().split()
    assert notes == ["entered", "left"] * 2


def test_run__broken_graph_says_where(client: Any, thread_id: str) -> None:
    answer = client.runs.wait(thread_id, "broken", input={}, raise_error=False)

    assert answer["__error__"]["error"] == "GraphLoadError"
    assert "'broken'" in answer["__error__"]["message"]
    assert "broken.py:3" in answer["__error__"]["message"]
    assert "RuntimeError: no such graph: \ufffd, \ufffd" in answer["__error__"]["message"]
    assert client.threads.get(thread_id)["status"] == "error"


def test_worker__names_the_broken_graph(server: System) -> None:
    [worker] = [process for process in server.processes if process.name.startswith("worker")]
    worker.wait_until_says("graph.failed")

    lines = [line for line in worker.said().splitlines() if "graph.failed" in line]

    assert len(lines) == 1
    assert "broken.py:3" in lines[0]


def test_worker__says_what_has_no_effect(server: System) -> None:
    [worker] = [process for process in server.processes if process.name.startswith("worker")]
    worker.wait_until_says("manifest.warned")

    lines = [line for line in worker.said().splitlines() if "manifest.warned" in line]

    assert len(lines) == 1
    assert '"ui" has no effect in this version' in lines[0]


def test_env__reaches_the_graph(sync_client: Any) -> None:
    values = sync_client.runs.wait(None, "mirror", input={})

    assert values["seen"]["motto"] == "from langgraph.json"


def test_store__is_shared_by_threads(sync_client: Any, thread_id: str) -> None:
    visits = [
        sync_client.runs.wait(None, "memory", input={"who": thread_id})["visits"] for _ in range(3)
    ]

    assert visits == [1, 2, 3]
