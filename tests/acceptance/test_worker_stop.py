"""Workers are asked to stop: by one signal or many, while runs end, go on, or ignore it."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from acceptance.course import Course, hold
from acceptance.system import Process, System
from acceptance.workers import ALL, assert_all_succeed, children, crashes, start_workers


def whole_group(worker: Process) -> None:
    os.killpg(worker.popen.pid, signal.SIGTERM)


def everybody(worker: Process) -> None:
    """As Heroku does it: to each process of the dyno."""
    for process in [psutil.Process(worker.popen.pid), *children(worker)]:
        process.send_signal(signal.SIGTERM)


def five_times(worker: Process) -> None:
    for _ in range(5):
        everybody(worker)


def by_keyboard(worker: Process) -> None:
    os.killpg(worker.popen.pid, signal.SIGINT)


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(Process.terminate, marks=pytest.mark.long),
        pytest.param(whole_group, marks=pytest.mark.long),
        pytest.param(everybody, marks=pytest.mark.long),
        five_times,
        by_keyboard,
    ],
)
def test_a_stop__lets_runs_end(
    crew: System,
    clients: ThreadPoolExecutor,
    tmp_path: Path,
    ask: Callable[[Process], None],
) -> None:
    worker = start_workers(crew, 2)
    held = hold(crew, clients, tmp_path)
    processes = children(worker)

    ask(worker)
    worker.wait_until_says("worker.draining")
    held.course.open("two")

    assert held.client.result().json()["log"] == ALL
    assert worker.ends() == 0
    assert worker.said().count("worker.draining") == 2
    assert [held.count(f">{step}") for step in ALL] == [1, 1, 1]
    assert crashes(crew, held.thread_id) == 0
    assert not any(process.is_running() for process in processes)


@pytest.mark.timeout(240)
def test_a_stop__takes_runs_from_nodes_that_ignore_it(crew: System, tmp_path: Path) -> None:
    """The worker that goes on with one of them is the next to be stopped."""
    worker = start_workers(crew, 1, TRELLIS_DRAIN_SECONDS="4")
    for graph in ("refusing", "stalling", "hogging"):
        (folder := tmp_path / graph).mkdir()
        course = Course(folder)
        thread_id = crew.new_thread()
        body = {"assistant_id": graph, "input": course.input()}
        run_id = crew.post(f"/threads/{thread_id}/runs", body)["run_id"]
        course.wait_until_notes("began")

        worker.terminate()
        course.open("open")

        assert worker.ends(seconds=10) == 0
        assert crashes(crew, thread_id) == 0
        worker = start_workers(crew, 1, TRELLIS_DRAIN_SECONDS="4")
        answer = crew.request("GET", f"/threads/{thread_id}/runs/{run_id}/join")
        assert answer.status == 200
        assert course.journal() == ["began", "began"], graph


def test_workers_are_replaced_one_after_the_other__while_runs_go_on(
    crew: System, clients: ThreadPoolExecutor
) -> None:
    first, second = [start_workers(crew, 1) for _ in range(2)]
    over = threading.Event()

    def create() -> list[str]:
        body = {"assistant_id": "steps", "input": {"log": []}}
        ids = []
        while not over.wait(0.05):
            ids.append(crew.post("/runs", body)["run_id"])
        return ids

    creating = [clients.submit(create) for _ in range(2)]
    first.terminate()
    assert first.ends() == 0
    start_workers(crew, 1)
    second.terminate()
    assert second.ends() == 0

    over.set()
    ids = [run_id for created in creating for run_id in created.result()]
    assert len(ids) > 50
    assert_all_succeed(crew, ids)
