"""Workers die or are asked to leave in the middle of runs, and others go on from the last checkpoint."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from acceptance.course import Course
from acceptance.system import Answer, Process, System, running, wait_for
from acceptance.test_wire import frames

ALL = ["one", "two", "three"]


@pytest.fixture(scope="module")
def system(new_system: Callable[..., System]) -> Iterator[System]:
    with running(new_system()) as system:
        system.start_web()
        yield system


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@dataclass
class Held:
    """A run that waits in the middle of its course, and the client that waits for it."""

    course: Course
    thread_id: str
    client: Future[Answer] = field(repr=False)

    def count(self, note: str) -> int:
        return self.course.journal().count(note)


@pytest.fixture(scope="module")
def hold(
    system: System, pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Held]:
    """Create a run and wait until it stands before its second step."""

    def hold(verb: str = "wait", **fields: Any) -> Held:
        course = Course(tmp_path_factory.mktemp("course"))
        thread_id = system.new_thread()
        body = {"assistant_id": "steps", "input": course.input(hold=("two",)), **fields}
        client = pool.submit(
            system.request, "POST", f"/threads/{thread_id}/runs/{verb}", body
        )
        course.wait_until_notes(">two")
        return Held(course, thread_id, client)

    return hold


# kill -9


@dataclass
class Crash:
    """What was under way when the worker was killed, and went on with another one."""

    waited: Held
    streamed: Held
    queued: str  #: a run that waited behind `waited`
    asked: Held


@pytest.fixture(scope="module")
def crash(
    system: System,
    hold: Callable[..., Held],
    pool: ThreadPoolExecutor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Crash]:
    """Kill a worker that holds three runs, and start another."""
    victim = system.start_worker()
    waited = hold()
    streamed = hold("stream", stream_mode="updates")
    behind = {"assistant_id": "compiled", "input": {"said": []}}
    queued = system.post(f"/threads/{waited.thread_id}/runs", behind)["run_id"]
    asked = ask_and_answer(system, Course(tmp_path_factory.mktemp("course")), pool)

    victim.kill()
    for held in (waited, streamed):
        held.course.open("two")
    asked.course.open("between")
    heir = system.start_worker()
    yield Crash(waited, streamed, queued, asked)
    heir.stop()


def ask_and_answer(system: System, course: Course, pool: ThreadPoolExecutor) -> Held:
    """Answer the first question of two, and stop between the two."""
    thread_id = system.new_thread()
    path = f"/threads/{thread_id}/runs/wait"
    given = course.input(hold=("between",))
    asked = system.post(path, {"assistant_id": "two_questions", "input": given})
    assert asked["__interrupt__"][0]["value"] == "first?"
    body = {"assistant_id": "two_questions", "command": {"resume": "yes"}}
    client = pool.submit(system.request, "POST", path, body)
    course.wait_until_notes("first=yes")
    return Held(course, thread_id, client)


def test_kill__the_waiting_client_gets_its_answer(crash: Crash) -> None:
    answer = crash.waited.client.result()

    assert answer.status == 200
    assert answer.json()["log"] == ALL


def test_kill__finished_steps_are_not_run_again(crash: Crash) -> None:
    for held in (crash.waited, crash.streamed):
        held.client.result()
        assert [held.count(f">{step}") for step in ALL] == [1, 2, 1]
        assert [held.count(f"<{step}") for step in ALL] == [1, 1, 1]


def test_kill__the_stream_goes_on_with_the_next_attempt(crash: Crash) -> None:
    body = crash.streamed.client.result().body.replace(b": heartbeat\r\n\r\n", b"")

    events = [(name, data) for name, data, _ in frames(body)]
    run_id = events[0][1]["run_id"]
    assert events == [
        ("metadata", {"run_id": run_id, "attempt": 1}),
        ("updates", {"one": {"log": ["one"]}}),
        ("metadata", {"run_id": run_id, "attempt": 2}),
        ("updates", {"two": {"log": ["two"]}}),
        ("updates", {"three": {"log": ["three"]}}),
    ]


def test_kill__history_has_no_step_twice(system: System, crash: Crash) -> None:
    crash.streamed.client.result()

    history = system.get(f"/threads/{crash.streamed.thread_id}/history?limit=20")

    steps = [state["metadata"]["step"] for state in history]
    assert steps == [3, 2, 1, 0, -1]


def test_kill__the_run_behind_is_executed_after(system: System, crash: Crash) -> None:
    thread_id = crash.waited.thread_id

    answer = system.request("GET", f"/threads/{thread_id}/runs/{crash.queued}/join")

    assert [*answer.json()] == ["log", "said"] or answer.json()["said"] == ["compiled"]
    [newest, first] = system.get(f"/threads/{thread_id}/runs")
    assert (newest["status"], first["status"]) == ("success", "success")


def test_kill__an_answer_is_never_given_to_another_question(system: System, crash: Crash) -> None:
    values = crash.asked.client.result().json()
    path = f"/threads/{crash.asked.thread_id}/runs/wait"
    body = {"assistant_id": "two_questions", "command": {"resume": "no"}}

    [question] = values["__interrupt__"]
    final = system.post(path, body)

    assert question["value"] == "second?"
    assert final["log"] == ["first=yes", "second=no"]
    assert crash.asked.count("second=yes") == 0


# SIGTERM


@dataclass
class Drain:
    """What was under way when the worker was asked to leave."""

    leaving: Process
    quick: Held
    slow: Held


@pytest.fixture(scope="module")
def drain(system: System, hold: Callable[..., Held]) -> Iterator[Drain]:
    """SIGTERM to a worker with two runs: one can end in time, the other cannot."""
    leaving = system.start_worker(TRELLIS_DRAIN_SECONDS="6")
    quick, slow = hold(), hold()
    heir = system.start_worker()

    leaving.terminate()
    leaving.wait_until_says("worker.draining")
    quick.course.open("two")
    yield Drain(leaving, quick, slow)
    heir.stop()


def test_sigterm__runs_that_can_end_do(drain: Drain) -> None:
    answer = drain.quick.client.result()

    assert answer.json()["log"] == ALL
    assert drain.quick.count(">two") == 1


def test_sigterm__the_others_are_handed_over(system: System, drain: Drain) -> None:
    wait_for(lambda: drain.slow.count(">two") == 2, what="another worker at the second step")
    drain.slow.course.open("two")

    assert drain.slow.client.result().json()["log"] == ALL
    assert [drain.slow.count(f">{step}") for step in ALL] == [1, 2, 1]
    [(crashes,)] = system.rows(
        "SELECT crashes FROM run WHERE thread_id = %s", drain.slow.thread_id
    )
    assert crashes == 0


def test_sigterm__ends_well(drain: Drain) -> None:
    assert drain.leaving.ends() == 0, drain.leaving.said()
