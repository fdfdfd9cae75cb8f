"""What an operator plugs in by path, in real web and worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from acceptance.system import ANSWER_SECONDS, READY_SECONDS, System, running, wait_for

PROJECT = Path(__file__).with_name("plugged")


@pytest.fixture(scope="module")
def plugged(
    new_system: Callable[..., System], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """A web and a worker process of one slot."""
    env = {
        "TRELLIS_CONFIG": str(PROJECT / "langgraph.json"),
        "MEMORY_FILE": str(tmp_path_factory.mktemp("memory") / "items.json"),
        "N_JOBS_PER_WORKER": "1",
    }
    with running(new_system(env=env)) as system:
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system


@pytest.fixture(scope="module")
def client(plugged: System) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=plugged.url, timeout=ANSWER_SECONDS) as client:
        yield client


def test_store__is_one_in_graphs_routes_and_nodes_clients(
    plugged: System, client: SyncLangGraphClient
) -> None:
    client.store.put_item(["notes"], key="last", value={"value": "from outside"})

    values = client.runs.wait(None, "remembers", input={"value": "from inside"})

    assert values == {
        "value": {"store": "FileStore", "before": "from outside", "told": "from inside"}
    }
    item = client.store.get_item(["notes"], key="last")
    assert item["value"] == {"value": "from inside"}
    assert plugged.rows("SELECT count(*) FROM store_item") == [(0,)]


@pytest.mark.parametrize("key", ["checkpointer", "store", "priority"])
def test_what_cannot_be_plugged_in_stops_the_start(
    new_system: Callable[..., System], key: str
) -> None:
    system = new_system()
    config = system.logs / "langgraph.json"
    config.write_text(f'{{"graphs": {{"g": "./g.py:g"}}, "{key}": {{"path": "./nowhere.py:it"}}}}')

    started = [system.start(each, TRELLIS_CONFIG=str(config)) for each in ("web", "worker")]

    for process in started:
        assert process.ends(seconds=READY_SECONDS) != 0
        assert f'"{key}.path": there is no file nowhere.py' in process.said()


def test_cache__is_shared_by_web_and_worker(client: SyncLangGraphClient) -> None:
    found = [client.runs.wait(None, "recalls", input={}) for _ in range(2)]

    assert [each["value"]["asked"] for each in found] == ["recalls", "recalls"]
    assert [each["value"]["status"] for each in found] == ["miss", "fresh"]
    assert found[0]["value"]["loaded"] == found[1]["value"]["loaded"]


def test_priority__the_most_urgent_run_is_next(
    plugged: System, client: SyncLangGraphClient, tmp_path: Path
) -> None:
    """Whatever the order in which the hints of the waiting runs stand in the queue."""
    gate = tmp_path / "gate"

    def start(urgency: int | None) -> str:
        body = {"value": str(gate)}
        thread_id = client.threads.create()["thread_id"]
        client.runs.create(thread_id, "waits", input=body, metadata={"urgency": urgency})
        return thread_id

    def running_on(thread_id: str) -> bool:
        count = "SELECT count(*) FROM run WHERE thread_id = %s AND status = 'running'"
        return plugged.rows(count, thread_id) == [(1,)]

    first = start(None)
    wait_for(lambda: running_on(first), what="the slot to be taken")
    low, none, high = start(5), start(None), start(-5)
    gate.touch()

    ids = [first, high, none, low]
    order = (
        "SELECT array_agg(thread_id::text ORDER BY started_at) FROM run"
        " WHERE status = 'success' AND thread_id = ANY(%s::uuid[])"
    )
    assert (
        wait_for(
            lambda: (found := plugged.rows(order, ids)[0][0]) and len(found) == 4 and found,
            what="the end of all runs",
        )
        == ids
    )
    assert plugged.rows("SELECT priority FROM thread WHERE thread_id = %s", high) == [(-5,)]


def test_store__lives_as_long_as_the_processes(plugged: System) -> None:
    """The last test of this file: it ends them."""
    plugged.stop()

    for process in plugged.processes:
        said = [line for line in process.said().splitlines() if line.startswith("the store")]
        assert said == ["the store opens", "the store closes"], process.said()
