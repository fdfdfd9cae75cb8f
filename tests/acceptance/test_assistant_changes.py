"""Assistants that clients make: their versions, their runs, and what becomes of those."""

import uuid
from typing import Any

import pytest
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError

from acceptance.course import Course
from acceptance.system import System, wait_for


@pytest.fixture
def mark() -> dict[str, str]:
    """Metadata that only this test's assistants and threads have."""
    return {"mark": str(uuid.uuid4())}


def test_life(client: Any, mark: dict[str, str]) -> None:
    made = client.assistants.create(
        "mirror", context={"name": "ada"}, metadata=mark, name="Mine", description="d"
    )
    assistant_id = made["assistant_id"]

    updated = client.assistants.update(assistant_id, context={"name": "bob"}, metadata={"n": 2})
    versions = client.assistants.get_versions(assistant_id, metadata=mark)
    restored = client.assistants.set_latest(assistant_id, 1)
    found = client.assistants.search(metadata=mark, name="MIN", response_format="object")

    assert (made["version"], updated["version"], restored["version"]) == (1, 2, 1)
    assert updated["metadata"] == {**mark, "n": 2}
    assert [each["context"] for each in versions] == [{"name": "bob"}, {"name": "ada"}]
    assert restored["context"] == {"name": "ada"}
    assert restored["config"] == {"configurable": {"name": "ada"}}
    assert found == {"assistants": [restored], "next": None}
    assert client.assistants.get(assistant_id) == restored
    assert client.assistants.count(metadata=mark) == 1
    client.assistants.delete(assistant_id)
    assert client.assistants.count(metadata=mark) == 0


def test_create__refused(sdk: Any) -> None:
    made = sdk.assistants.create("compiled")

    with pytest.raises(ConflictError, match="already exists"):
        sdk.assistants.create("compiled", assistant_id=made["assistant_id"])
    with pytest.raises(NotFoundError, match="Graph 'nope' not found"):
        sdk.assistants.create("nope")
    with pytest.raises(BadRequestError, match="Prefer setting context alone"):
        sdk.assistants.create("compiled", {"configurable": {"a": 1}}, context={"a": 2})


def test_search__pages(sdk: Any, mark: dict[str, str]) -> None:
    for name in "cab":
        sdk.assistants.create("compiled", metadata=mark, name=name)
    wanted = {"metadata": mark, "sort_by": "name", "sort_order": "asc", "select": ["name"]}

    first = sdk.assistants.search(**wanted, limit=2, response_format="object")
    second = sdk.assistants.search(**wanted, limit=2, offset=int(first["next"]))

    assert first["assistants"] == [{"name": "a"}, {"name": "b"}]
    assert second == [{"name": "c"}]


def test_run__with_the_assistants_settings(sdk: Any, mark: dict[str, str]) -> None:
    config = {
        "configurable": {"name": "ada", "kept": 1},
        "tags": ["a"],
        "recursion_limit": 11,
        "metadata": {"of": "config", "from": "config"},
    }
    assistant = sdk.assistants.create("mirror", config, metadata=mark)
    assistant_id = assistant["assistant_id"]
    thread_id = sdk.threads.create(metadata={"of": "thread"})["thread_id"]

    plain = sdk.runs.wait(thread_id, assistant_id, input={"seen": {}})["seen"]
    changed = sdk.runs.wait(
        thread_id, assistant_id, input={"seen": {}}, context={"name": "bob"}, metadata={"of": "run"}
    )["seen"]

    assert (plain["name"], plain["configurable"]["kept"]) == ("ada", 1)
    assert plain["recursion_limit"] == 11
    assert "a" in plain["tags"]
    assert plain["metadata"]["mark"] == mark["mark"]
    assert (plain["metadata"]["of"], plain["metadata"]["from"]) == ("thread", "config")
    assert (changed["name"], changed["configurable"]["kept"]) == ("bob", 1)
    assert changed["configurable"]["name"] == "bob"
    assert changed["metadata"]["of"] == "run"
    thread = sdk.threads.get(thread_id)
    assert thread["metadata"]["assistant_id"] == assistant_id
    assert thread["metadata"]["graph_id"] == "mirror"
    assert thread["config"] == {
        "tags": ["a"],
        "recursion_limit": 11,
        "configurable": {"name": "ada", "kept": 1},
    }


def test_run__with_the_latest_version(sdk: Any) -> None:
    assistant_id = sdk.assistants.create("mirror", context={"name": "ada"})["assistant_id"]
    sdk.assistants.update(assistant_id, context={"name": "bob"})
    newest = sdk.runs.wait(None, assistant_id, input={"seen": {}})["seen"]
    sdk.assistants.set_latest(assistant_id, 1)

    restored = sdk.runs.wait(None, assistant_id, input={"seen": {}})["seen"]

    assert (newest["name"], restored["name"]) == ("bob", "ada")


def test_delete__stops_a_run(sdk: Any, thread_id: str, course: Course) -> None:
    assistant_id = sdk.assistants.create("steps")["assistant_id"]
    run = sdk.runs.create(thread_id, assistant_id, input=course.input(hold=("two",)))
    course.wait_until_notes(">two")

    sdk.assistants.delete(assistant_id)

    wait_for(
        lambda: sdk.runs.get(thread_id, run["run_id"])["status"] == "interrupted",
        what="the end of the run",
    )
    thread = sdk.threads.get(thread_id)
    assert thread["values"]["log"] == ["one"]
    assert "assistant was deleted" in thread["error"]["message"]


def test_delete__with_its_threads(sdk: Any, thread_id: str) -> None:
    assistant_id = sdk.assistants.create("compiled")["assistant_id"]
    spared = sdk.threads.create()["thread_id"]
    sdk.runs.wait(thread_id, assistant_id, input={"said": []})
    sdk.runs.wait(spared, "compiled", input={"said": []})

    sdk.assistants.delete(assistant_id, delete_threads=True)

    with pytest.raises(NotFoundError):
        sdk.threads.get(thread_id)
    assert sdk.threads.get(spared)["values"] == {"said": ["compiled"]}


def described(server: System, graph_id: str) -> None:
    """The worker tells what graphs look like when it starts; it may still be at it."""
    path = f"/assistants/{graph_id}/graph"
    wait_for(lambda: server.request("GET", path).status == 200, what="the drawing")


def test_get_graph__xray(sdk: Any, server: System) -> None:
    described(server, "nested_question")

    outside = sdk.assistants.get_graph("nested_question")
    inside = sdk.assistants.get_graph("nested_question", xray=True)
    one_deep = sdk.assistants.get_graph("nested_question", xray=1)

    assert "child" in {node["id"] for node in outside["nodes"]}
    assert "child:ask" in {node["id"] for node in inside["nodes"]}
    assert one_deep == inside


def test_get_subgraphs(sdk: Any, server: System) -> None:
    described(server, "nested_question")
    [assistant] = sdk.assistants.search(graph_id="nested_question")
    assistant_id = assistant["assistant_id"]

    found = sdk.assistants.get_subgraphs(assistant_id)

    assert list(found) == ["child"]
    assert {"value", "log"} <= {*found["child"]["state_schema"]["properties"]}
    assert sdk.assistants.get_subgraphs(assistant_id, "child", recurse=True) == found
    assert sdk.assistants.get_subgraphs(assistant_id, "nope") == {}
