"""Runs that end before their time: cancelled, or deleted."""

import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any

import pytest
from langgraph_sdk.errors import NotFoundError

from acceptance.course import Course
from acceptance.ends import PROMPTLY, is_over, status, thread_of
from acceptance.sse import frames
from acceptance.system import System, wait_for

VIA_RUN = "{} requested via POST /threads/{{thread_id}}/runs/{{run_id}}/cancel"


def read(response: HTTPResponse) -> bytes:
    return response.read()


# Cancel


def test_cancel(client: Any, thread_id: str, hold: Any) -> None:
    run_id = hold()
    began = time.monotonic()

    client.runs.cancel(thread_id, run_id, wait=True)

    assert time.monotonic() - began < PROMPTLY
    assert status(client, thread_id, run_id) == "interrupted"
    error = {"error": "UserInterrupt", "message": VIA_RUN.format("interrupt")}
    assert thread_of(client, thread_id) == ("interrupted", error)
    state = client.threads.get_state(thread_id)
    assert (state["next"], state["values"]["log"]) == (["two"], ["one"])


def test_cancel__says_why(client: Any, thread_id: str, hold: Any) -> None:
    run_id, waiting = hold(), client.runs.create(thread_id, "steps", input={})["run_id"]
    before = client.runs.get(thread_id, run_id)["cancel_reason"]

    client.runs.cancel(thread_id, waiting, wait=True, params={"reason": "taken"})
    client.runs.cancel(thread_id, run_id, wait=True)

    reason = VIA_RUN.format("interrupt")
    assert before is None
    assert client.runs.get(thread_id, run_id)["cancel_reason"] == reason
    listed = client.runs.list(thread_id, select=["cancel_reason"])
    assert listed == [{"cancel_reason": f"taken: {reason}"}, {"cancel_reason": reason}]


@pytest.mark.parametrize("given", [{"reason": "other"}, {"reason": "taken", "action": "rollback"}])
def test_cancel__with_a_reason_that_means_nothing(
    server: System, client: Any, thread_id: str, given: dict[str, str]
) -> None:
    run_id = client.runs.create(thread_id, "steps", input={}, after_seconds=600)["run_id"]
    query = "&".join(f"{name}={value}" for name, value in given.items())

    answer = server.request("POST", f"/threads/{thread_id}/runs/{run_id}/cancel?{query}", None)

    assert (answer.status, "reason" in answer.json()["detail"]) == (422, True)
    assert status(client, thread_id, run_id) == "pending"


def test_cancel__and_go_on(client: Any, thread_id: str, hold: Any, course: Course) -> None:
    client.runs.cancel(thread_id, hold(), wait=True)
    course.open("two")

    values = client.runs.wait(thread_id, "steps", input=None)

    assert values["log"] == ["one", "two", "three"]
    assert thread_of(client, thread_id) == ("idle", None)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_cancel__durability(client: Any, thread_id: str, hold: Any, durability: str) -> None:
    """What was done is kept, also where it was to be saved at the end only."""
    client.runs.cancel(thread_id, hold(durability=durability), wait=True)

    state = client.threads.get_state(thread_id)
    assert (state["next"], state["values"]["log"]) == (["two"], ["one"])


def test_cancel__without_waiting(server: System, thread_id: str, hold: Any, client: Any) -> None:
    run_id = hold()

    answer = server.request("POST", f"/threads/{thread_id}/runs/{run_id}/cancel")

    assert (answer.status, answer.body) == (202, b"")
    wait_for(lambda: is_over(client, thread_id, run_id), seconds=PROMPTLY, what="the end")


def test_cancel__waiting_says_where_to_ask(
    server: System, thread_id: str, hold: Any, client: Any
) -> None:
    path = f"/threads/{thread_id}/runs/{hold()}"

    answer = server.request("POST", f"{path}/cancel?wait=1")

    assert (answer.status, answer.json()) == (200, {})
    assert answer.headers["location"] == f"{path}/join"
    assert answer.headers["content-location"] == path


@pytest.mark.parametrize("earlier", [False, True])
def test_cancel__rollback(
    client: Any, thread_id: str, hold: Any, course: Course, earlier: bool
) -> None:
    before = None
    if earlier:
        before = client.runs.wait(thread_id, "steps", input={})
    history = client.threads.get_history(thread_id)
    run_id = hold()

    client.runs.cancel(thread_id, run_id, wait=True, action="rollback")

    with pytest.raises(NotFoundError):
        client.runs.get(thread_id, run_id)
    error = {"error": "UserRollback", "message": VIA_RUN.format("rollback")}
    assert thread_of(client, thread_id) == ("idle", error)
    assert client.threads.get(thread_id)["values"] == before
    assert client.threads.get_history(thread_id) == history


def test_cancel__rollback_of_an_answer(client: Any, thread_id: str, course: Course) -> None:
    """The question stands again as it stood, and so does what was answered before it."""
    given = course.input(hold=("between",))
    client.runs.wait(thread_id, "two_questions", input=given)
    before = client.threads.get(thread_id)["interrupts"]
    state = client.threads.get_state(thread_id)
    run = client.runs.create(thread_id, "two_questions", command={"resume": "wrong"})
    course.wait_until_notes("first=wrong")

    client.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")

    assert thread_of(client, thread_id)[0] == "interrupted"
    assert client.threads.get(thread_id)["interrupts"] == before
    assert client.threads.get_state(thread_id) == state
    course.open("between")
    client.runs.wait(thread_id, "two_questions", command={"resume": "right"})
    values = client.runs.wait(thread_id, "two_questions", command={"resume": "2"})
    assert values["log"] == ["first=right", "second=2"]


def test_cancel__rollback_of_the_second_answer(
    client: Any, thread_id: str, course: Course, server: System
) -> None:
    """What the undone run had replaced of an older run's writes is there again."""
    client.runs.wait(thread_id, "two_questions", input=course.input())
    client.runs.wait(thread_id, "two_questions", command={"resume": "1"})
    state = client.threads.get_state(thread_id)
    run = client.runs.create(thread_id, "two_questions", command={"resume": "wrong"})
    client.runs.join(thread_id, run["run_id"])

    answer = server.request("DELETE", f"/threads/{thread_id}/runs/{run['run_id']}")

    assert answer.status == 204
    assert client.threads.get_state(thread_id) == state
    values = client.runs.wait(thread_id, "two_questions", command={"resume": "2"})
    assert values["log"] == ["first=1", "second=2"]


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_cancel__pending(client: Any, thread_id: str, action: str) -> None:
    run_id = client.runs.create(thread_id, "steps", input={}, after_seconds=60)["run_id"]
    assert client.threads.get(thread_id)["status"] == "busy"

    client.runs.cancel(thread_id, run_id, wait=True, action=action)

    assert thread_of(client, thread_id) == ("idle", None)
    runs = [run["status"] for run in client.runs.list(thread_id)]
    assert runs == (["interrupted"] if action == "interrupt" else [])


def test_cancel__pending_ends_its_stream(
    server: System, client: Any, thread_id: str, clients: ThreadPoolExecutor
) -> None:
    run_id = client.runs.create(thread_id, "steps", input={}, after_seconds=60)["run_id"]
    path = f"/threads/{thread_id}/runs/{run_id}"
    with server.open("GET", f"{path}/stream") as response:
        reading = clients.submit(read, response)

        client.runs.cancel(thread_id, run_id)

        assert reading.result(10).replace(b": heartbeat\r\n\r\n", b"") == b""


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_cancel__of_what_is_over(client: Any, thread_id: str, action: str) -> None:
    client.runs.wait(thread_id, "steps", input={})
    (run,) = client.runs.list(thread_id)

    with pytest.raises(NotFoundError, match="No matching runs to cancel"):
        client.runs.cancel(thread_id, run["run_id"], action=action)


def test_cancel__unknown(server: System, thread_id: str) -> None:
    unknown = "0190aaaa-0000-7000-8000-000000000000"

    answer = server.request("POST", f"/threads/{thread_id}/runs/{unknown}/cancel")

    assert (answer.status, answer.json()) == (404, {"detail": "No runs found to cancel."})


def test_cancel__unknown_action(server: System, thread_id: str, hold: Any, course: Course) -> None:
    run_id = hold()

    for action in ("bogus", "timeout"):
        path = f"/threads/{thread_id}/runs/{run_id}/cancel?action={action}"
        assert server.request("POST", path).status == 422
    course.open("two")


@pytest.mark.parametrize(
    ("assistant", "subgraphs", "mode", "action"),
    [
        ("nested_steps", False, "updates", "interrupt"),
        ("nested_steps", True, "updates", "interrupt"),
        ("nested_steps", True, "events", "interrupt"),
        ("nested_steps", False, "lifecycle", "interrupt"),
        ("steps", False, "updates", "interrupt"),
        ("steps", False, "events", "rollback"),
        ("steps", False, "updates", "rollback"),
    ],
)
def test_cancel__streams_just_close(
    server: System,
    client: Any,
    thread_id: str,
    course: Course,
    clients: ThreadPoolExecutor,
    assistant: str,
    subgraphs: bool,
    mode: str,
    action: Any,
) -> None:
    body = {
        "assistant_id": assistant,
        "input": course.input(hold=("two",)),
        "stream_mode": [mode, "values"],
        "stream_subgraphs": subgraphs,
    }
    with server.open("POST", f"/threads/{thread_id}/runs/stream", body) as response:
        run_id = response.getheader("Content-Location").rpartition("/")[2]
        reading = clients.submit(read, response)
        course.wait_until_notes(">two")

        client.runs.cancel(thread_id, run_id, wait=True, action=action)

        events = [event.partition("|")[0] for event, _, _ in frames(reading.result(10))]
    assert {*events} == {"metadata", "values", mode}
    assert events.count("metadata") == 1
    if action == "interrupt":
        assert status(client, thread_id, run_id) == "interrupted"


def test_cancel__who_waits_gets_the_values_so_far(
    client: Any, thread_id: str, hold: Any, clients: ThreadPoolExecutor, server: System
) -> None:
    run_id = hold()
    path = f"/threads/{thread_id}/runs/{run_id}"
    joining = clients.submit(server.get, f"{path}/join")

    client.runs.cancel(thread_id, run_id, wait=True)

    assert joining.result(10)["log"] == ["one"]


def test_cancel__sync_node(client: Any, thread_id: str, course: Course) -> None:
    """Nothing can stop a thread: its run ends, and what it returns does not count."""
    run = client.runs.create(thread_id, "blocking", input=course.input())
    course.wait_until_notes(">block")

    client.runs.cancel(thread_id, run["run_id"], wait=True)

    assert status(client, thread_id, run["run_id"]) == "interrupted"
    course.open("block")
    course.wait_until_notes("<block")
    state = client.threads.get_state(thread_id)
    assert (state["next"], state["values"]["log"]) == (["block"], ["one"])


def test_cancel__node_that_ignores_it(client: Any, thread_id: str, course: Course) -> None:
    """The run ends after a grace, its thread is free, and the node's late result is refused."""
    run = client.runs.create(thread_id, "ignoring", input=course.input())
    course.wait_until_notes(">ignore")
    began = time.monotonic()

    client.runs.cancel(thread_id, run["run_id"], wait=True)

    assert time.monotonic() - began < 10
    assert status(client, thread_id, run["run_id"]) == "interrupted"
    assert client.runs.wait(thread_id, "steps", input={"name": "next"})["log"][-1] == "three"
    course.open("ignore")
    course.wait_until_notes("<ignore")
    values = client.threads.get(thread_id)["values"]
    assert values["log"] == ["one", "one", "two", "three"]


# Bulk cancel


def test_cancel_many__of_a_thread(client: Any, server: System, thread_id: str, hold: Any) -> None:
    running = hold()
    waiting = client.runs.create(thread_id, "steps", input={})["run_id"]
    body = {"thread_id": thread_id, "run_ids": [running, waiting]}

    answer = server.request("POST", "/runs/cancel", body)

    assert (answer.status, answer.body) == (204, b"")
    wait_for(lambda: is_over(client, thread_id, running), what="the end")
    assert status(client, thread_id, waiting) == "interrupted"
    message = "interrupt requested via POST /runs/cancel"
    error = {"error": "UserInterrupt", "message": message}
    assert thread_of(client, thread_id) == ("interrupted", error)


def test_cancel_many__pending_only(client: Any, thread_id: str, hold: Any, course: Course) -> None:
    running = hold()
    waiting = client.runs.create(thread_id, "steps", input={})["run_id"]

    client.runs.cancel_many(status="pending")

    assert status(client, thread_id, waiting) == "interrupted"
    assert status(client, thread_id, running) == "running"
    assert thread_of(client, thread_id)[0] == "busy"
    course.open("two")
    assert client.runs.join(thread_id, running)["log"] == ["one", "two", "three"]


def test_cancel_many__all(client: Any, thread_id: str, hold: Any) -> None:
    running = hold()

    client.runs.cancel_many(status="all", action="rollback")

    wait_for(lambda: client.runs.list(thread_id) == [], what=f"{running} to be gone")
    with pytest.raises(NotFoundError, match="No runs found to cancel"):
        client.runs.cancel_many(thread_id=thread_id, run_ids=[running])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": "success"},
        {"status": "all", "thread_id": "0190aaaa-0000-7000-8000-000000000000"},
        {"thread_id": "0190aaaa-0000-7000-8000-000000000000"},
        {"run_ids": ["0190aaaa-0000-7000-8000-000000000000"]},
        {"thread_id": "0190aaaa-0000-7000-8000-000000000000", "run_ids": []},
        {"thread_id": "x", "run_ids": ["0190aaaa-0000-7000-8000-000000000000"]},
    ],
)
def test_cancel_many__contradictions(server: System, body: Any) -> None:
    assert server.request("POST", "/runs/cancel", body).status == 422


# Deleting


def test_delete_run__running(client: Any, thread_id: str, hold: Any, course: Course) -> None:
    run_id = hold()

    client.runs.delete(thread_id, run_id)

    assert client.runs.list(thread_id) == []
    assert client.threads.get_history(thread_id) == []
    assert thread_of(client, thread_id) == ("idle", None)
    with pytest.raises(NotFoundError, match="Run not found"):
        client.runs.delete(thread_id, run_id)
    course.open("two")
    assert client.runs.wait(thread_id, "steps", input={})["log"] == ["one", "two", "three"]


def test_delete_run__finished(client: Any, thread_id: str) -> None:
    kept = client.runs.wait(thread_id, "steps", input={})
    client.runs.wait(thread_id, "steps", input={})
    newest = client.runs.list(thread_id)[0]["run_id"]

    client.runs.delete(thread_id, newest)

    assert client.threads.get(thread_id)["values"] == kept
    assert len(client.runs.list(thread_id)) == 1


def test_delete_thread__with_runs(
    server: System, client: Any, thread_id: str, hold: Any, course: Course
) -> None:
    hold()
    client.runs.create(thread_id, "steps", input={})

    client.threads.delete(thread_id)

    with pytest.raises(NotFoundError):
        client.threads.get(thread_id)
    course.open("two")
    for table in ("run", "checkpoint", "checkpoint_blob", "checkpoint_write"):
        statement = f"SELECT count(*) FROM {table} WHERE thread_id = %s"
        assert server.rows(statement, thread_id) == [(0,)]
    with pytest.raises(NotFoundError):
        client.threads.delete(thread_id)
