"""What is tried again and what is not: the platform's troubles inside the lease, a graph's own as its policy says."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from acceptance.course import Course
from acceptance.system import System, running, wait_for
from trellis.db import runs
from trellis.db.engine import new_engine

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

EXPIRE = "UPDATE run SET lease_expires_at = clock_timestamp() WHERE run_id = %(run_id)s::uuid"
AGAIN = "UPDATE run SET run_after = clock_timestamp() WHERE run_id = %(run_id)s::uuid"


@pytest.fixture(scope="module")
def system(new_system: Callable[..., System]) -> Iterator[System]:
    """One of its own: every connection to its database is cut."""
    with running(new_system()) as system:
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system


@pytest.fixture
def engine(system: System) -> Iterator[Engine]:
    engine = new_engine(system.database_url, pool_size=1)
    yield engine
    engine.dispose()


def start(system: System, graph: str, course: Course, **values: object) -> tuple[str, str]:
    """Create a run in the background. Returns its thread's id and its own."""
    thread_id = system.new_thread()
    body = {"assistant_id": graph, "input": course.input(**values)}
    return thread_id, system.post(f"/threads/{thread_id}/runs", body)["run_id"]


def status(system: System, run_id: str) -> str:
    [(found,)] = system.rows("SELECT status FROM run WHERE run_id = %s", run_id)
    return str(found)


def ending(system: System, run_id: str) -> str:
    def ended() -> str | None:
        found = status(system, run_id)
        return None if found in ("pending", "running") else found

    return str(wait_for(ended, what="the end of the run"))


@pytest.mark.parametrize(
    ("fail", "error"),
    [("own", "ValueError"), ("database", "OperationalError"), ("redis", "ConnectionError")],
)
def test_a_graph_that_raises__is_called_once(
    system: System, course: Course, fail: str, error: str
) -> None:
    """Also when it raises what would be ours to try again."""
    _, run_id = start(system, "flaky", course, fail=fail)

    assert ending(system, run_id) == "error"
    assert course.journal() == ["called"]
    told = "SELECT error ->> 'error', attempt, crashes FROM run WHERE run_id = %s"
    assert system.rows(told, run_id) == [(error, 1, 0)]


@pytest.mark.parametrize("fail", ["own", "database"])
def test_a_graph_that_raises__is_called_as_often_as_its_policy_says(
    system: System, course: Course, fail: str
) -> None:
    _, run_id = start(system, "patient", course, fail=fail)

    assert ending(system, run_id) == "success"
    assert course.journal() == ["called"] * 3
    assert system.rows("SELECT attempt FROM run WHERE run_id = %s", run_id) == [(1,)]


def test_a_dead_letter__says_why_and_is_run_again(system: System, course: Course) -> None:
    thread_id, run_id = start(system, "flaky", course, fail="own")
    assert ending(system, run_id) == "error"

    letter = "SELECT kwargs -> 'input', traceback, thread_id::text, assistant_id::text FROM dead_letter WHERE run_id = %s"
    [(given, traceback, thread, assistant)] = system.rows(letter, run_id)
    assert given["folder"] == str(course.folder)
    assert "in fail_twice" in traceback
    assert thread == thread_id
    for ends in ("error", "success"):
        body = {"assistant_id": assistant, "input": None}
        again = system.post(f"/threads/{thread_id}/runs", body)["run_id"]
        assert ending(system, again) == ends


def test_an_attempt_that_lost_its_run__puts_nothing_into_the_store(
    system: System, engine: Engine, course: Course
) -> None:
    name = str(course.folder.name)
    thread_id, run_id = start(system, "late", course, name=name)
    course.wait_until_notes(">put")
    take_from_its_worker(engine, thread_id, run_id)

    course.open("put")
    course.wait_until_notes("Fenced")

    kept = "SELECT value FROM store_item WHERE namespace = ARRAY[%s]"
    assert system.rows(kept, name) == []
    with engine.begin() as tx:
        tx.exec_driver_sql(AGAIN, {"run_id": run_id})
    assert ending(system, run_id) == "success"
    assert course.journal() == [">put", "Fenced", ">put", "<put"]
    assert len(system.rows(kept, name)) == 1


def take_from_its_worker(engine: Engine, thread_id: str, run_id: str) -> None:
    """What a sweep does when the lease has run out; not to be tried again for a minute."""
    with engine.begin() as tx:
        tx.exec_driver_sql(EXPIRE, {"run_id": run_id})
        assert runs.rescue(tx, run_id, thread_id, backoff_seconds=60) == "pending"


def test_a_run_that_cannot_be_begun__fails(system: System, course: Course) -> None:
    """It was accepted by another version, say. Its lease was kept for ever."""
    thread_id = system.new_thread()
    body = {"assistant_id": "keeping", "input": course.input(), "after_seconds": 60}
    run_id = system.post(f"/threads/{thread_id}/runs", body)["run_id"]
    maimed = "(kwargs::jsonb - 'resumable')::json"
    change = f"UPDATE run SET kwargs = {maimed}, run_after = clock_timestamp() WHERE run_id = %s"

    assert system.change(change, run_id) == 1

    assert ending(system, run_id) == "error"
    told = "SELECT error ->> 'error', crashes FROM run WHERE run_id = %s"
    assert system.rows(told, run_id) == [("KeyError", 0)]
    assert course.journal() == []


def test_connections_that_are_cut__cost_no_step(system: System, course: Course) -> None:
    """
    Checkpoints, the store and the end: each finds its connection dead.

    The last test of this file: the next request to the web process would be told to come again.
    """
    steps = ["one", "two", "three"]
    name = str(course.folder.name)
    _, run_id = start(system, "keeping", course, hold=tuple(steps), name=name)

    for step in steps:
        course.wait_until_notes(f">{step}")
        system.rows(CUT)
        course.open(step)

    assert ending(system, run_id) == "success"
    assert course.journal() == [f">{step}" for step in steps]
    assert system.rows("SELECT attempt FROM run WHERE run_id = %s", run_id) == [(1,)]
    kept = "SELECT key FROM store_item WHERE namespace = ARRAY[%s] ORDER BY created_at"
    assert system.rows(kept, name) == [(step,) for step in steps]
