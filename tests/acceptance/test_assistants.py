"""Default assistants: one per graph, named by graph id or UUID."""

import json
import uuid
from typing import Any

import pytest
from langgraph_sdk.errors import NotFoundError

from acceptance.system import GRAPHS, System, wait_for

NAMESPACE = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


def default_id(graph_id: str) -> str:
    return str(uuid.uuid5(NAMESPACE, graph_id))


def test_get(client: Any) -> None:
    assistant = client.assistants.get(default_id("compiled"))

    assert assistant["assistant_id"] == default_id("compiled")
    assert assistant["graph_id"] == assistant["name"] == "compiled"
    assert assistant["metadata"] == {"created_by": "system"}
    assert (assistant["config"], assistant["context"]) == ({}, {})
    assert assistant["version"] == 1
    assert assistant["description"] is None


def test_get__unknown(client: Any) -> None:
    with pytest.raises(NotFoundError, match="Not Found"):
        client.assistants.get(str(uuid.uuid4()))


def test_get__with_a_description(client: Any) -> None:
    assistant = client.assistants.get(default_id("described"))

    assert assistant["description"] == "Says its name."


def test_search__finds_one_per_graph_broken_ones_included(client: Any) -> None:
    found = client.assistants.search(metadata={"created_by": "system"}, limit=100)

    graphs = sorted(assistant["graph_id"] for assistant in found)
    assert graphs == sorted(json.loads(GRAPHS.read_text())["graphs"])
    assert "broken" in graphs


def test_search__of_a_graph(client: Any) -> None:
    found = client.assistants.search(graph_id="hitl", metadata={"created_by": "system"})

    assert [assistant["assistant_id"] for assistant in found] == [default_id("hitl")]


def test_get_schemas__of_a_broken_graph_say_why(server: System) -> None:
    """And it keeps no other graph from being told of."""
    path = f"/assistants/{default_id('chat')}/schemas"
    wait_for(lambda: server.request("GET", path).status == 200, what="a graph that comes later")

    refused = server.request("GET", f"/assistants/{default_id('broken')}/schemas")

    assert "no such graph: \ufffd, \ufffd (broken.py:3)" in refused.json()["detail"]


def test_get_schemas(client: Any, server: System) -> None:
    # The worker tells what graphs look like; it may still be at it.
    path = f"/assistants/{default_id('hitl')}/schemas"
    wait_for(lambda: server.request("GET", path).status == 200, what="the schemas")

    schemas = client.assistants.get_schemas(default_id("hitl"))

    assert schemas["graph_id"] == "hitl"
    assert {"value", "log"} <= {*schemas["state_schema"]["properties"]}


@pytest.mark.parametrize("name", ["compiled", default_id("compiled")])
def test_run__by_graph_id_and_by_uuid(client: Any, name: str, thread_id: str) -> None:
    values = client.runs.wait(thread_id, name, input={"said": []})

    assert values == {"said": ["compiled"]}
    run = client.runs.list(thread_id)[0]
    assert run["assistant_id"] == default_id("compiled")
    assert run["metadata"]["graph_id"] == "compiled"
