"""Two web processes, of which one is killed or asked to leave while clients stream."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

import pytest

from acceptance.course import Course
from acceptance.system import Process, System, wait_for

#: uvicorn's grace for requests under way is 4 s; platforms kill after 10 s.
WEB_STOP_SECONDS = 5.0
Second = tuple[System, Process]

PRESENT = "SELECT count(*) FROM presence WHERE run_id = %s"


@contextmanager
def streaming(system: System, course: Course) -> Iterator[tuple[str, str, Any]]:
    """A client of a run that is to end with it, when the run stands in its second step: (thread, run, response)."""
    thread_id = system.new_thread()
    body = {
        "assistant_id": "steps",
        "input": course.input(hold=("two",)),
        "on_disconnect": "cancel",
    }
    with system.open("POST", f"/threads/{thread_id}/runs/stream", body) as response:
        run_id = response.getheader("Content-Location").rpartition("/")[2]
        course.wait_until_notes(">two")
        wait_for(lambda: system.rows(PRESENT, run_id) == [(1,)], what="the client's presence")
        yield thread_id, run_id, response


def status(system: System, run_id: str) -> str:
    [(found,)] = system.rows("SELECT status FROM run WHERE run_id = %s", run_id)
    return str(found)


def test_a_killed_web_process__takes_the_runs_of_its_clients_along(
    server: System, second: Second, course: Course
) -> None:
    system, web = second
    with streaming(system, course) as (thread_id, run_id, _):
        web.kill()

    wait_for(lambda: status(server, run_id) == "interrupted", what="the end of the run")
    error = server.get(f"/threads/{thread_id}")["error"]
    assert error["message"] == "client disconnected from the run stream (on_disconnect=cancel)"
    assert server.rows(PRESENT, run_id) == [(0,)]


def test_a_killed_web_process__a_client_that_comes_back_keeps_its_run(
    server: System, second: Second, course: Course
) -> None:
    system, web = second
    with streaming(system, course) as (thread_id, run_id, _):
        web.kill()

    with server.open("GET", f"/threads/{thread_id}/runs/{run_id}/stream") as response:
        wait_for(lambda: server.rows(PRESENT, run_id) == [(0,)], what="nobody to be missed")
        assert status(server, run_id) == "running"
        course.open("two")
        assert b"three" in response.read()
    assert status(server, run_id) == "success"


def test_a_web_process_that_is_asked_to_leave__sends_its_clients_elsewhere(
    server: System, second: Second, course: Course
) -> None:
    system, web = second
    with streaming(system, course) as (_, run_id, response):
        for _ in range(5):
            web.terminate()
        with pytest.raises(http.client.IncompleteRead) as cut:
            response.read()
        rest = cut.value.partial
        assert web.ends(seconds=WEB_STOP_SECONDS) == 0

    assert b"retry:" in rest
    assert b"event: error" not in rest
    assert server.rows(PRESENT, run_id) == [(0,)]
    assert status(server, run_id) == "running"
    course.open("two")
    wait_for(lambda: status(server, run_id) == "success", what="the run's success")


def test_a_web_process_that_is_asked_to_leave__waiting_clients_see_that_it_is_not_the_end(
    server: System, second: Second, course: Course
) -> None:
    system, web = second
    body = {"assistant_id": "steps", "input": course.input(hold=("two",))}
    with system.open("POST", f"/threads/{system.new_thread()}/runs/wait", body) as response:
        course.wait_until_notes(">two")
        web.terminate()
        with pytest.raises(HTTPException):
            response.read()
    assert web.ends(seconds=WEB_STOP_SECONDS) == 0
    course.open("two")
