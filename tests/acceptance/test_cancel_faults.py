"""A cancel reaches its run without Redis and without its worker; a run's time is up whatever its node does."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from acceptance.course import Course
from acceptance.sse import frames
from acceptance.system import FAULTS, System, running, wait_for
from trellis.dev.embedded import start_valkey

CANCELLED = {
    "error": "UserInterrupt",
    "message": "interrupt requested via POST /threads/{thread_id}/runs/{run_id}/cancel",
}


def begin(system: System, course: Course, graph: str, at: str, hold: tuple[str, ...] = ()) -> str:
    """Start a run; returns its path when it stands in the given node."""
    thread_id = system.new_thread()
    body = {"assistant_id": graph, "input": course.input(hold=hold), "stream_resumable": True}
    run = system.post(f"/threads/{thread_id}/runs", body)
    course.wait_until_notes(f">{at}")
    return f"/threads/{thread_id}/runs/{run['run_id']}"


def is_over(system: System, path: str) -> Any:
    found = system.get(path)["status"]
    return found not in ("pending", "running") and found


def thread_of(system: System, path: str) -> tuple[str, Any]:
    thread = system.get(path.partition("/runs/")[0])
    return thread["status"], thread["error"]


def test_cancel__the_worker_is_dead(
    front: System, course: Course, clients: ThreadPoolExecutor
) -> None:
    """Race 22: whoever finds the lease expired ends the run."""
    victim = front.start_worker()
    path = begin(front, course, "steps", "two", ("two",))
    victim.kill()

    cancelling = clients.submit(front.request, "POST", f"{path}/cancel?wait=true")
    asked = "SELECT 1 FROM run WHERE cancel_action IS NOT NULL AND status = 'running'"
    wait_for(lambda: front.rows(asked), what="the wish in the database")
    front.end_leases()
    worker = front.start_worker()

    assert cancelling.result().status == 200
    assert is_over(front, path) == "interrupted"
    assert thread_of(front, path) == ("interrupted", CANCELLED)
    assert course.journal().count(">two") == 1
    worker.stop()


def test_cancel__without_redis(
    new_system: Callable[..., System], server_folder: Path, course: Course
) -> None:
    """Race 21: the next heartbeat tells."""
    redis = start_valkey(server_folder / "redis-cancel")
    with running(new_system(redis_url=redis.url, env=FAULTS)) as system:
        system.start_worker()
        system.start_web()
        path = begin(system, course, "steps", "two", ("two",))
        redis.stop()

        assert system.request("POST", f"{path}/cancel").status == 202

        wait_for(lambda: is_over(system, path), seconds=9, what="the end")
        assert thread_of(system, path) == ("interrupted", CANCELLED)


@pytest.fixture(scope="module")
def hasty(new_system: Callable[..., System]) -> Iterator[System]:
    """A system whose runs may take two seconds."""
    with running(new_system(env={**FAULTS, "BG_JOB_TIMEOUT_SECS": "2"})) as system:
        system.start_web()
        system.start_worker()
        yield system


@pytest.mark.parametrize(
    ("graph", "at", "hold"),
    [("steps", "two", ("two",)), ("ignoring", "ignore", ()), ("blocking", "block", ())],
)
def test_timeout(hasty: System, course: Course, graph: str, at: str, hold: tuple[str, ...]) -> None:
    path = begin(hasty, course, graph, at, hold)

    values = hasty.get(f"{path}/join")

    assert values["log"] == ["one"]
    assert is_over(hasty, path) == "timeout"
    replayed = hasty.request("GET", f"{path}/stream", headers={"Last-Event-ID": "-1"})
    assert [name for name, *_ in frames(replayed.body)] == ["metadata", "values", "values"]
    assert thread_of(hasty, path) == ("error", {"error": "TimeoutError", "message": ""})
    course.open(at)
