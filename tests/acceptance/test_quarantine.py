"""A run that kills its process is found, and costs nobody else anything but time."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psutil
import psycopg2
import pytest

from acceptance.course import Course
from acceptance.system import FAULTS, Process, System, running, wait_for
from acceptance.workers import children
from trellis.domain.runs import Ward

#: Three processes die and four start, on a machine that does other things too.
FOUND_SECONDS = 90.0
ALL = ["one", "two", "three"]


@pytest.fixture(scope="module")
def system(new_system: Callable[..., System]) -> Iterator[System]:
    with running(new_system(env=FAULTS)) as system:
        system.start_web()
        yield system


@pytest.fixture
def start_worker(system: System) -> Iterator[Callable[..., Process]]:
    """Start a worker with so many processes, and stop it at the end."""
    started: list[Process] = []

    def start(processes: int, **env: str) -> Process:
        worker = system.start("worker", TRELLIS_WORKER_PROCESSES=str(processes), **env)
        worker.wait_until(
            lambda: worker.said().count("worker.ready") == processes, what="ready altogether"
        )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.is_alive():
            worker.stop()


def hold_many(system: System, course: Course, count: int) -> list[str]:
    """Runs that all stand before their second step."""
    body = {"assistant_id": "steps", "input": course.input(hold=("two",))}
    ids = [run_in_background(system, body) for _ in range(count)]
    course.wait_until_notes(">two", times=count)
    return ids


def run_in_background(system: System, body: dict[str, Any]) -> str:
    thread_id = system.new_thread()
    run_id: str = system.post(f"/threads/{thread_id}/runs", body)["run_id"]
    return run_id


def successor(worker: Process, dead: psutil.Process) -> psutil.Process:
    """What the parent starts in its place."""

    def started() -> list[psutil.Process]:
        return [child for child in children(worker) if child.pid != dead.pid]

    wait_for(started, what="the process that is started again")
    return started()[0]


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def quarantines(worker: Process) -> list[str]:
    """The wards that processes have begun to execute, in order."""
    return re.findall(r"quarantine.begun .*ward=(\w+)", worker.said())


def status(system: System, run_id: str) -> str:
    [(found,)] = system.rows("SELECT status FROM run WHERE run_id = %s", run_id)
    return str(found)


def wait_for_success(system: System, ids: list[str]) -> None:
    count = "SELECT count(*) FROM run WHERE run_id = ANY(%s::uuid[]) AND status = 'success'"
    wait_for(lambda: system.rows(count, ids) == [(len(ids),)], what="success of every run")


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("processes", "fail"), [pytest.param(1, "exit", marks=pytest.mark.long), (2, "killed")]
)
def test_a_run_that_kills_its_process(
    system: System,
    course: Course,
    start_worker: Callable[..., Process],
    processes: int,
    fail: str,
    record_property: Callable[[str, object], None],
) -> None:
    worker = start_worker(processes)
    neighbours = hold_many(system, course, 20)

    began = time.monotonic()
    poison = {"assistant_id": "poison", "input": course.input(fail=fail)}
    run_id = run_in_background(system, poison)
    wait_for(lambda: status(system, run_id) == "error", seconds=FOUND_SECONDS, what="its end")
    record_property("seconds", round(time.monotonic() - began, 1))
    course.open("two")

    wait_for_success(system, neighbours)
    attempts = "SELECT attempt, max_crashes FROM run WHERE run_id = %s"
    assert system.rows(attempts, run_id) == [(3, 3)]
    assert course.journal().count(">die") == 3
    assert list(dict.fromkeys(quarantines(worker))) == ["shared", "alone"]
    others = "SELECT max(crashes) FROM run WHERE run_id = ANY(%s::uuid[])"
    assert system.rows(others, neighbours) <= [(2,)]
    letter = "SELECT attempts, last_error ->> 'error' FROM dead_letter WHERE run_id = %s"
    assert system.rows(letter, run_id) == [(3, "WorkerLost")]


def test_a_run_that_ends_its_process_as_if_all_were_well(
    system: System, course: Course, start_worker: Callable[..., Process]
) -> None:
    """Its lease is ended at once, and it goes on apart from all others, as after any other death."""
    worker = start_worker(1)
    poison = {"assistant_id": "poison", "input": course.input(fail="left", deaths=1)}

    run_id = run_in_background(system, poison)

    wait_for_success(system, [run_id])
    assert system.rows("SELECT attempt, crashes FROM run WHERE run_id = %s", run_id) == [(2, 1)]
    assert quarantines(worker) == ["shared"]


@pytest.mark.timeout(180)
@pytest.mark.long
def test_a_run_that_kills_its_process__beside_newer_ones(
    system: System, course: Course, start_worker: Callable[..., Process]
) -> None:
    """They are tried before it, and stay where it is tried: at most one death more finds it, and nobody else is blamed."""
    start_worker(1)
    poison = {"assistant_id": "poison", "input": course.input(fail="exit", hold=("die",))}
    run_id = run_in_background(system, poison)
    course.wait_until_notes(">die")
    neighbours = hold_many(system, course, 1)

    course.open("die")
    wait_for(lambda: status(system, run_id) == "error", seconds=FOUND_SECONDS, what="its end")
    course.open("two")

    wait_for_success(system, neighbours)
    assert course.journal().count(">die") in (3, 4)


@pytest.mark.timeout(180)
@pytest.mark.long
def test_a_stop__reaches_the_quarantine(
    system: System, course: Course, start_worker: Callable[..., Process]
) -> None:
    """Its run is handed over like any other; a quarantine that has nothing to do ends by itself."""
    body = {"assistant_id": "steps", "input": course.input(hold=("two",))}
    run_id = run_in_background(system, body)
    suspect = "UPDATE run SET trial_seconds = 0.5 WHERE run_id = %s"
    with closing(psycopg2.connect(system.database_url)) as connection, connection:
        connection.cursor().execute(suspect, (run_id,))
    worker = start_worker(1, TRELLIS_DRAIN_SECONDS="6")
    course.wait_until_notes(">two")
    assert len(children(worker, Ward.ALONE)) == 1

    worker.stop()
    course.open("two")
    worker = start_worker(1)

    wait_for_success(system, [run_id])
    assert course.journal().count(">one") == 1
    assert system.rows("SELECT attempt, crashes FROM run WHERE run_id = %s", run_id) == [(2, 0)]
    wait_for(lambda: not children(worker, Ward.ALONE), what="its end")
    assert "worker.died" not in worker.said()


def test_a_killed_process__fifty_runs_go_on_at_once(
    system: System,
    course: Course,
    start_worker: Callable[..., Process],
    record_property: Callable[[str, object], None],
) -> None:
    """In the quarantine, which needs nobody beside it: the process that is started again stands still."""
    worker = start_worker(1)
    ids = hold_many(system, course, 50)
    [child] = children(worker)

    os.kill(child.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    with frozen(successor(worker, child)):
        course.wait_until_notes(">two", times=100)
        record_property("seconds", round(time.monotonic() - killed_at, 2))
    course.open("two")

    wait_for_success(system, ids)
    assert quarantines(worker) == ["shared"]
    assert system.rows("SELECT DISTINCT crashes FROM run WHERE run_id = ANY(%s::uuid[])", ids) == [
        (1,)
    ]
