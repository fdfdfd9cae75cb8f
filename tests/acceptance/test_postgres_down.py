"""Postgres goes away and comes back: nothing is accepted meanwhile, and nothing accepted is lost."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from acceptance.course import Course
from acceptance.system import System, running, wait_for
from trellis.db.encryption import check_key
from trellis.db.engine import new_engine
from trellis.db.migrate import migrate
from trellis.db.vault import Vault
from trellis.dev.embedded import Server, start_postgres
from trellis.dev.process import any_port
from trellis.domain.encryption import Encryption


class Database:
    """A Postgres that can be stopped, and started again where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server: Server = start_postgres(folder, durable=False)

    def stop(self) -> None:
        self.server.stop()

    def start(self) -> None:
        if not self.server.is_alive():
            self.server = start_postgres(self._folder, port=self.server.port, durable=False)


@pytest.fixture(scope="module")
def database(server_folder: Path) -> Iterator[Database]:
    database = Database(server_folder / "postgres-down")
    migrate(database.server.url)
    yield database
    database.stop()


@pytest.fixture(scope="module")
def system(new_system: Callable[..., System], database: Database) -> Iterator[System]:
    with running(new_system(database_url=database.server.url)) as system:
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system
        database.start()


@pytest.fixture(autouse=True)
def _database_runs(database: Database) -> None:
    database.start()


def works(system: System) -> bool:
    body = {"assistant_id": "compiled", "input": {"said": []}}
    answer = system.request("POST", "/runs/wait", body)
    return answer.status == 200 and answer.json() == {"said": ["compiled"]}


@pytest.mark.parametrize("path", ["/runs", "/runs/wait", "/runs/stream", "/threads", "/runs/batch"])
def test_create__is_refused(system: System, database: Database, path: str) -> None:
    run = {"assistant_id": "compiled", "input": {"said": []}}
    body = {"/threads": {}, "/runs/batch": [run]}.get(path, run)
    database.stop()

    answer = system.request("POST", path, body)

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert [*answer.json()] == ["detail"]


def test_get__is_refused(system: System, database: Database) -> None:
    thread_id = system.new_thread()
    database.stop()

    assert system.request("GET", f"/threads/{thread_id}").status == 503
    assert system.request("GET", f"/threads/{thread_id}/state").status == 503


def test_ok(system: System, database: Database) -> None:
    database.stop()

    deep = system.request("GET", "/ok?check_db=1")

    assert deep.json() == {"ok": False, "services": {"database": "unreachable", "redis": "ok"}}
    assert system.request("GET", "/ok").status == 200


def test_web__that_meets_the_database_late(system: System, database: Database) -> None:
    """It cannot know before that its key is missing; then it goes."""
    engine = new_engine(
        system.database_url, pool_size=1, vault=Vault(Encryption(keys=(b"k" * 16,)))
    )
    check_key(engine)
    engine.dispose()
    database.stop()
    late = replace(system, port=any_port(), processes=[])
    with running(late):
        web = late.start_web()

        database.start()

        web.ends()
        assert "add it to LANGGRAPH_AES_FALLBACK_KEYS" in web.said()
    system.change("DELETE FROM encryption_probe")


def test_all_is_well_again(system: System, database: Database) -> None:
    database.stop()
    database.start()

    wait_for(lambda: works(system), what="a run that works")
    assert all(process.is_alive() for process in system.processes), system.said()


def test_run__goes_on_over_a_restart(system: System, database: Database, course: Course) -> None:
    wait_for(lambda: works(system), what="a run that works")
    body = {"assistant_id": "steps", "input": course.input(hold=("two",))}
    with ThreadPoolExecutor() as pool:
        values = pool.submit(system.post, "/runs/wait", body)
        course.wait_until_notes(">two")

        database.stop()
        course.open("two")
        course.wait_until_notes("<three")
        database.start()

        assert values.result()["log"] == ["one", "two", "three"]
    assert course.journal().count(">two") == 1
