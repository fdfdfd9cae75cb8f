"""Threads searched, copied, pruned, and ended by their time to live."""

import uuid
from typing import Any

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from acceptance.course import Course
from acceptance.system import System, wait_for

#: Minutes: a time to live that is over at once.
BRIEF = 0.0001


@pytest.fixture
def mark() -> dict[str, str]:
    """Metadata that only this test's threads have."""
    return {"mark": str(uuid.uuid4())}


def test_life(client: Any, mark: dict[str, str]) -> None:
    thread = client.threads.create(metadata=mark, graph_id="hitl", ttl=5)
    thread_id = thread["thread_id"]
    client.runs.wait(thread_id, "hitl", input={"value": "v"})

    wanted = {"metadata": mark, "values": {"value": "v"}}
    [found] = client.threads.search(
        **wanted, select=["status"], extract={"first": "values.log[0]", "mark": "metadata.mark"}
    )
    copy = client.threads.copy(thread_id)

    assert thread["metadata"] == {**mark, "graph_id": "hitl"}
    assert found == {
        "status": "interrupted",
        "extracted": {"first": "prepare", "mark": mark["mark"]},
    }
    assert copy["values"] == {"value": "v", "log": ["prepare"]}
    assert client.threads.count(**wanted) == 2
    assert client.threads.get(thread_id, include=["ttl"])["ttl"]["ttl_minutes"] == 5
    assert client.threads.update(thread_id, metadata={"n": 1}, return_minimal=True) is None
    assert client.threads.get(thread_id)["metadata"]["n"] == 1
    ids = [thread_id, copy["thread_id"]]
    assert client.threads.prune(ids, strategy="keep_latest") == {"pruned_count": 2}
    assert len(client.threads.get_history(thread_id)) == 1
    assert client.threads.prune(ids) == {"pruned_count": 2}
    assert client.threads.count(metadata=mark) == 0


def test_create__with_the_history_of_another(sdk: Any, thread_id: str) -> None:
    """As a thread is taken to another server."""
    sdk.runs.wait(thread_id, "hitl", input={"value": "v"})
    values = sdk.threads.get(thread_id)["values"]
    said = [{"values": {"value": "v"}, "as_node": node} for node in ("__input__", "__start__")]
    prepared = {"values": {"log": ["prepare"]}, "as_node": "prepare"}

    made = sdk.threads.create(
        graph_id="hitl", supersteps=[{"updates": [update]} for update in (*said, prepared)]
    )

    assert made["values"] == values
    assert sdk.threads.get_state(made["thread_id"])["next"] == ["ask"]
    asked = sdk.runs.wait(made["thread_id"], "hitl", input=None)
    [question] = asked["__interrupt__"]
    assert question["value"] == {"question": "approve?", "value": "v"}
    done = sdk.runs.wait(made["thread_id"], "hitl", command={"resume": "yes"})
    assert done["log"] == ["prepare", "ask", "finish"]


def test_copy__of_a_thread_that_asks_can_be_answered(sdk: Any, thread_id: str) -> None:
    sdk.runs.wait(thread_id, "hitl", input={"value": "v"})
    source = sdk.threads.get(thread_id)

    copy = sdk.threads.copy(thread_id)
    values = sdk.runs.wait(copy["thread_id"], "hitl", command={"resume": "yes"})

    assert (copy["status"], copy["interrupts"]) == ("interrupted", source["interrupts"])
    assert values["answer"] == "yes"
    assert sdk.threads.get(thread_id) == source
    assert sdk.threads.get_state(thread_id)["next"] == ["ask"]


def test_copy__while_a_run_executes(sdk: Any, thread_id: str, course: Course) -> None:
    run = sdk.runs.create(thread_id, "steps", input=course.input(hold=("two",)))
    course.wait_until_notes(">two")

    with pytest.raises(ConflictError, match="Copy it when it has ended"):
        sdk.threads.copy(thread_id)

    course.open("two")
    sdk.runs.join(thread_id, run["run_id"])
    copy = sdk.threads.copy(thread_id)
    assert copy["values"]["log"] == ["one", "two", "three"]


def test_prune__a_thread_goes_on_from_its_latest_state(sdk: Any, thread_id: str) -> None:
    for _ in range(2):
        sdk.runs.wait(thread_id, "compiled", input={"said": ["hi"]})
    before = sdk.threads.get_state(thread_id)

    sdk.threads.prune([thread_id], strategy="keep_latest")

    assert sdk.threads.get_state(thread_id) == before
    values = sdk.runs.wait(thread_id, "compiled", input={"said": ["again"]})
    assert values["said"] == ["hi", "compiled"] * 2 + ["again", "compiled"]


def test_prune__stops_what_runs(sdk: Any, thread_id: str, course: Course) -> None:
    sdk.runs.create(thread_id, "steps", input=course.input(hold=("two",)))
    course.wait_until_notes(">two")

    assert sdk.threads.prune([thread_id]) == {"pruned_count": 1}

    with pytest.raises(NotFoundError):
        sdk.threads.get(thread_id)


def test_storage(sdk: Any, server: System, thread_id: str) -> None:
    empty = server.get(f"/threads/{thread_id}/storage")
    sdk.runs.wait(thread_id, "compiled", input={"said": ["x" * 10_000]})

    found = server.get(f"/threads/{thread_id}/storage")

    assert empty["total_bytes"] == 0
    assert found["checkpoints"]["count"] == len(sdk.threads.get_history(thread_id))
    assert found["channel_values"]["by_channel"]["said"]["versions"] >= 1
    assert found["total_bytes"] > found["checkpoints"]["bytes"] > 0


def test_status(sdk: Any, thread_id: str) -> None:
    """What a thread is after each kind of end."""
    created = sdk.threads.get(thread_id)
    sdk.runs.wait(thread_id, "hitl", input={"value": "v"})
    asking = sdk.threads.get(thread_id)
    sdk.runs.wait(thread_id, "hitl", command={"resume": "yes"})
    done = sdk.threads.get(thread_id)
    sdk.runs.wait(thread_id, "failing", input={"fail": "plain"}, raise_error=False)
    failed = sdk.threads.get(thread_id)

    [[question]] = asking["interrupts"].values()
    assert question["value"] == {"question": "approve?", "value": "v"}
    assert (asking["status"], asking["error"]) == ("interrupted", None)
    assert (done["status"], done["interrupts"], done["error"]) == ("idle", {}, None)
    assert failed["status"] == "error"
    assert failed["error"] == {"error": "ValueError", "message": "boom"}
    times = [each["state_updated_at"] for each in (created, asking, done, failed)]
    assert times == sorted(set(times))


def test_ttl__deletes(sdk: Any) -> None:
    thread_id = sdk.threads.create(ttl=BRIEF)["thread_id"]

    def is_gone() -> bool:
        return not sdk.threads.search(ids=[thread_id])

    wait_for(is_gone, what="the sweep")
    with pytest.raises(NotFoundError):
        sdk.threads.get(thread_id)


def test_ttl__keeps_the_latest(sdk: Any, thread_id: str) -> None:
    sdk.runs.wait(thread_id, "compiled", input={"said": ["hi"]})
    state = sdk.threads.get_state(thread_id)
    sdk.threads.update(thread_id, metadata={}, ttl={"ttl": BRIEF, "strategy": "keep_latest"})

    wait_for(lambda: len(sdk.threads.get_history(thread_id)) == 1, what="the sweep")

    assert sdk.threads.get_state(thread_id) == state
    ttl = sdk.threads.get(thread_id, include=["ttl"])["ttl"]
    assert ttl == {"strategy": "keep_latest", "ttl_minutes": BRIEF, "expires_at": None}
    sdk.runs.wait(thread_id, "compiled", input={"said": ["again"]})
    wait_for(lambda: len(sdk.threads.get_history(thread_id)) == 1, what="the next sweep")
    assert sdk.threads.get(thread_id)["values"]["said"] == ["hi", "compiled", "again", "compiled"]


def test_ttl__not_while_a_run_executes(sdk: Any, course: Course) -> None:
    thread_id = sdk.threads.create(ttl=10)["thread_id"]
    run = sdk.runs.create(thread_id, "steps", input=course.input(hold=("two",)))
    course.wait_until_notes(">two")
    marker = sdk.threads.create(ttl=BRIEF)["thread_id"]
    sdk.threads.update(thread_id, metadata={}, ttl=BRIEF)

    wait_for(lambda: not sdk.threads.search(ids=[marker]), what="a sweep")

    assert sdk.threads.get(thread_id)["status"] == "busy"
    sdk.threads.update(thread_id, metadata={}, ttl=10)
    course.open("two")
    values = sdk.runs.join(thread_id, run["run_id"])
    assert values["log"] == ["one", "two", "three"]


def test_search__what_makes_no_sense(sdk: Any) -> None:
    with pytest.raises(UnprocessableEntityError, match="must start with one of: config"):
        sdk.threads.search(extract={"a": "status"})
    with pytest.raises(UnprocessableEntityError, match="length <= 10"):
        sdk.threads.search(extract={str(n): "metadata.a" for n in range(11)})
