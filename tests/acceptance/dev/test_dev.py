import contextlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from langgraph_sdk import get_sync_client

from trellis.dev.process import poll_until

#: For the whole family to end when its head was killed.
END_SECONDS = 20.0
#: For a process to start again.
START_SECONDS = 60.0


def all_gone(processes: list[psutil.Process]) -> bool:
    return all(
        not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        for process in processes
    )


@pytest.fixture(scope="module")
def running(start: Any) -> Any:
    """One that several tests ask without changing it."""
    return start()


def test_dev(running: Any, ask: Any) -> None:
    url = running.instance().url

    assert httpx.get(f"{url}/ok").json()["ok"] is True
    assert ask(url) == "first"


def test_dev__can_be_emptied(running: Any) -> None:
    url = running.instance().url
    with get_sync_client(url=url) as client:
        thread_id = client.threads.create()["thread_id"]

        answer = httpx.post(f"{url}/internal/truncate", json={"threads": True})

        found = client.threads.search(ids=[thread_id])

    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert found == []


def test_dev__says_what_to_paste_and_it_works(running: Any) -> None:
    running.instance()
    assert running.says("Ctrl-C stops")
    lines = running.said().splitlines()

    curl = shlex.split(next(line for line in lines if line.startswith("curl ")))
    answer = httpx.post(
        curl[2],
        content=curl[curl.index("-d") + 1],
        headers={"Content-Type": "application/json"},
        timeout=30,
    )
    assert answer.json()["messages"][-1]["content"] == "first"

    begin = lines.index("from langgraph_sdk import get_sync_client")
    snippet = "\n".join(lines[begin : begin + 4])
    printed = subprocess.run(
        [sys.executable, "-c", snippet], capture_output=True, text=True, check=True, timeout=60
    )
    assert "first" in printed.stdout


def test_dev__a_second_time_on_the_same_data(running: Any, start: Any) -> None:
    url = running.instance().url

    second = start()

    assert second.ends() == 1
    assert f"already runs on {running.data_dir} at {url}" in second.said()


def test_dev__beside_another(running: Any, start: Any, ask: Any) -> None:
    first = running.instance().url
    taken = httpx.URL(first).port

    second = start("--no-reload", "--port", str(taken), data="other")

    url = second.instance().url
    assert url != first
    assert f"Port {taken} is taken; using " in second.said()
    assert ask(url) == "first"
    assert second.interrupt() == 0


def test_dev__restarts_what_dies(running: Any, ask: Any) -> None:
    url = running.instance().url
    web = next(process for process in running.family() if process.cmdline()[-1] == "web")

    web.kill()

    assert running.says("web was killed by SIGKILL. Starting it again")
    assert poll_until(lambda: _answers(url), seconds=START_SECONDS, every=0.05)
    assert ask(url) == "first"


def test_dev__restarts_a_database_that_dies(running: Any, ask: Any) -> None:
    url = running.instance().url
    postgres = next(process for process in running.family() if process.name() == "postgres")

    postgres.kill()

    assert running.says("Postgres was killed by SIGKILL. Starting it again")
    assert poll_until(lambda: _answers(url), seconds=START_SECONDS, every=0.05)
    assert poll_until(lambda: _asked_well(ask, url), seconds=START_SECONDS, every=0.25)


def _asked_well(ask: Any, url: str) -> bool:
    """Clients are told to try again while a database is away."""
    try:
        return bool(ask(url) == "first")
    except httpx.HTTPError:
        return False


@pytest.fixture
def graph_file(folder: Path) -> Iterator[Path]:
    """The project's graph, for a test that changes it."""
    path = folder / "graph.py"
    before = path.read_text()
    yield path
    path.write_text(before)


def test_dev__loads_a_change(start: Any, graph_file: Path, ask: Any) -> None:
    dev = start(data="reloaded")
    url = dev.instance().url
    assert ask(url) == "first"

    graph_file.write_text(graph_file.read_text().replace('"first"', '"second"'))

    assert dev.says("graph.py changed: restarting")
    assert poll_until(
        lambda: dev.said().count("listens on") == 2, seconds=START_SECONDS, every=0.05
    )
    assert poll_until(lambda: ask(url) == "second", seconds=START_SECONDS, every=0.25)
    dev.process.terminate()
    assert dev.ends() == 0


def test_dev__keeps_the_data_and_no_process(start: Any) -> None:
    first = start(data="kept")
    with get_sync_client(url=first.instance().url) as client:
        thread_id = client.threads.create(metadata={"kept": True})["thread_id"]
    family = first.family()

    assert first.interrupt() == 0

    assert all_gone(family)
    assert not (first.data_dir / "dev.json").exists()
    again = start(data="kept")
    with get_sync_client(url=again.instance().url) as client:
        assert client.threads.get(thread_id)["metadata"] == {"kept": True}
    family = again.family()
    # Itself, Postgres, Valkey, web and worker, at least.
    assert len(family) >= 5

    again.process.kill()

    assert poll_until(lambda: all_gone(family), seconds=END_SECONDS)


def test_dev__interrupted_twice(start: Any) -> None:
    dev = start(env={"TRELLIS_DRAIN_SECONDS": "600"}, data="twice")
    question: dict[str, Any] = {"messages": [{"role": "user", "content": "sleep"}]}
    with get_sync_client(url=dev.instance().url) as client:
        client.runs.create(None, "agent", input=question)
    assert dev.says("run.claimed")
    family = dev.family()
    dev.process.send_signal(signal.SIGINT)
    assert dev.says("worker.draining")

    dev.process.send_signal(signal.SIGINT)

    # Well before the worker's time is over.
    assert dev.process.wait(END_SECONDS) == 0
    assert all_gone(family)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_dev__stopped_while_it_starts(start: Any, signum: int) -> None:
    dev = start(data=f"early-{signum}")
    assert poll_until(lambda: len(dev.family()) > 1, seconds=START_SECONDS)
    family = dev.family()

    dev.process.send_signal(signum)

    assert dev.ends() == 0
    assert all_gone(family)


def test_dev__with_databases_of_ones_own(
    start: Any, database_url: str, redis_url: str, ask: Any
) -> None:
    dev = start(env={"DATABASE_URL": database_url, "REDIS_URL": redis_url}, data="own")

    found = dev.instance()

    assert (found.database_url, found.redis_url) == (database_url, redis_url)
    assert ask(found.url) == "first"
    assert not (dev.data_dir / "postgres").exists()
    assert not (dev.data_dir / "valkey").exists()
    assert dev.interrupt() == 0


def test_dev__a_manifest_without_sense(start: Any, tmp_path: Path) -> None:
    path = tmp_path / "langgraph.json"
    path.write_text(json.dumps({"graphs": ["no", "mapping"]}))

    dev = start("--config", str(path), data="nonsense")

    assert dev.ends() == 1
    assert str(path) in dev.said()
    assert "Traceback" not in dev.said()


def test_dev__a_database_that_is_not_there(start: Any) -> None:
    dev = start(env={"DATABASE_URL": "postgresql://me@127.0.0.1:1/none"}, data="absent")

    assert dev.ends() == 1
    assert "could not be brought up to date" in dev.said()
    assert "Traceback" not in dev.said()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/ok").status_code == 200
    return False
