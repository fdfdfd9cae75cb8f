"""Clients that hang up before their run is over."""

from typing import Any

import pytest

from acceptance.course import Course
from acceptance.ends import PROMPTLY, is_over, thread_of
from acceptance.system import System, wait_for


@pytest.mark.parametrize("verb", ["stream", "wait"])
@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
def test_on_disconnect(
    server: System, client: Any, thread_id: str, course: Course, verb: str, on_disconnect: str
) -> None:
    body = {
        "assistant_id": "steps",
        "input": course.input(hold=("two",)),
        "on_disconnect": on_disconnect,
    }

    with server.open("POST", f"/threads/{thread_id}/runs/{verb}", body) as response:
        run_id = response.getheader("Content-Location").rpartition("/")[2]
        course.wait_until_notes(">two")

    if on_disconnect == "cancel":
        wait_for(lambda: is_over(client, thread_id, run_id), seconds=PROMPTLY, what="the end")
        message = "client disconnected from the run stream (on_disconnect=cancel)"
        error = {"error": "UserInterrupt", "message": message}
        assert thread_of(client, thread_id) == ("interrupted", error)
    else:
        course.open("two")
        assert client.runs.join(thread_id, run_id)["log"] == ["one", "two", "three"]


@pytest.mark.parametrize("verb", ["stream", "join"])
def test_cancel_on_disconnect(
    server: System, client: Any, thread_id: str, hold: Any, verb: str
) -> None:
    run_id = hold()

    path = f"/threads/{thread_id}/runs/{run_id}/{verb}?cancel_on_disconnect=true"
    with server.open("GET", path):
        pass

    wait_for(lambda: is_over(client, thread_id, run_id), seconds=PROMPTLY, what="the end")


def test_cancel_on_disconnect__who_stays_to_the_end(
    client: Any, thread_id: str, course: Course, server: System
) -> None:
    body = {"assistant_id": "steps", "input": course.input(), "on_disconnect": "cancel"}

    for verb in ("wait", "stream"):
        assert server.request("POST", f"/threads/{thread_id}/runs/{verb}", body).status == 200

    assert {run["status"] for run in client.runs.list(thread_id)} == {"success"}
