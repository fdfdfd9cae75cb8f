"""A worker is killed in the middle of runs, and another goes on from the last checkpoint."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from acceptance.course import Course, Held, hold
from acceptance.sse import frames
from acceptance.system import System

ALL = ["one", "two", "three"]


@dataclass
class Crash:
    """What was under way when the worker was killed, and went on with another one."""

    waited: Held
    streamed: Held
    queued: str  #: a run that waited behind `waited`
    asked: Held


@pytest.fixture(scope="module")
def crash(
    front: System, clients: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Crash:
    """kill -9 of a worker that holds three runs, while another one starts."""
    victim = front.start_worker()
    waited = hold(front, clients, tmp_path_factory.mktemp("waited"))
    streamed = hold(
        front,
        clients,
        tmp_path_factory.mktemp("streamed"),
        verb="stream",
        stream_mode="updates",
        stream_resumable=True,
    )
    behind = {"assistant_id": "compiled", "input": {"said": []}}
    queued = front.post(f"/threads/{waited.thread_id}/runs", behind)["run_id"]
    asked = ask_and_answer(front, clients, Course(tmp_path_factory.mktemp("asked")))

    victim.kill()
    for held in (waited, streamed):
        held.course.open("two")
    asked.course.open("between")
    front.start_worker()
    return Crash(waited, streamed, queued, asked)


def ask_and_answer(system: System, clients: ThreadPoolExecutor, course: Course) -> Held:
    """Answer the first question of two, and stop between the two."""
    thread_id = system.new_thread()
    path = f"/threads/{thread_id}/runs/wait"
    given = course.input(hold=("between",))
    asked = system.post(path, {"assistant_id": "two_questions", "input": given})
    assert asked["__interrupt__"][0]["value"] == "first?"
    body = {"assistant_id": "two_questions", "command": {"resume": "yes"}}
    client = clients.submit(system.request, "POST", path, body)
    course.wait_until_notes("first=yes")
    return Held(course, thread_id, client)


def test_the_waiting_client_gets_its_answer(crash: Crash) -> None:
    answer = crash.waited.client.result()

    assert answer.status == 200
    assert answer.json()["log"] == ALL


def test_finished_steps_are_not_run_again(crash: Crash) -> None:
    for held in (crash.waited, crash.streamed):
        held.client.result()
        assert [held.count(f">{step}") for step in ALL] == [1, 2, 1]
        assert [held.count(f"<{step}") for step in ALL] == [1, 1, 1]


def test_the_stream_goes_on_with_the_next_attempt(crash: Crash) -> None:
    body = crash.streamed.client.result().body

    events = [(name, data) for name, data, _ in frames(body)]
    run_id = events[0][1]["run_id"]
    assert events == [
        ("metadata", {"run_id": run_id, "attempt": 1}),
        ("updates", {"one": {"log": ["one"]}}),
        ("metadata", {"run_id": run_id, "attempt": 2}),
        ("updates", {"two": {"log": ["two"]}}),
        ("updates", {"three": {"log": ["three"]}}),
    ]


def test_the_stream_is_replayed_with_both_attempts(front: System, crash: Crash) -> None:
    answer = crash.streamed.client.result()
    path = answer.headers["location"]
    told = frames(answer.body)

    for at, last in [(0, "-1"), (2, told[1][2]), (4, told[3][2])]:
        replayed = front.request("GET", path, headers={"Last-Event-ID": str(last)})
        assert frames(replayed.body) == told[at:]


def test_history_has_no_step_twice(front: System, crash: Crash) -> None:
    crash.streamed.client.result()

    history = front.get(f"/threads/{crash.streamed.thread_id}/history?limit=20")

    steps = [state["metadata"]["step"] for state in history]
    assert steps == [3, 2, 1, 0, -1]


def test_the_run_behind_is_executed_after(front: System, crash: Crash) -> None:
    thread_id = crash.waited.thread_id

    answer = front.request("GET", f"/threads/{thread_id}/runs/{crash.queued}/join")

    assert answer.json()["said"] == ["compiled"]
    [newest, first] = front.get(f"/threads/{thread_id}/runs")
    assert (newest["status"], first["status"]) == ("success", "success")


def test_an_answer_is_never_given_to_another_question(front: System, crash: Crash) -> None:
    values = crash.asked.client.result().json()
    path = f"/threads/{crash.asked.thread_id}/runs/wait"
    body = {"assistant_id": "two_questions", "command": {"resume": "no"}}

    [question] = values["__interrupt__"]
    final = front.post(path, body)

    assert question["value"] == "second?"
    assert final["log"] == ["first=yes", "second=no"]
    assert crash.asked.count("second=yes") == 0
