from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from trellis.graphs import schemas
from trellis.graphs.registry import Registry
from unit.graphs.projects import compiled

RegistryOf = Callable[..., Registry]

N = {"title": "N", "type": "integer"}


def info(registry: Registry) -> dict[str, Any]:
    found = schemas.info(compiled(registry, "agent"))
    assert orjson.loads(orjson.dumps(found)) == found
    return found


def test_info(registry_of: RegistryOf) -> None:
    found = info(registry_of(""))

    assert found == {
        "input_schema": {"properties": {"n": N}, "title": "State", "type": "object"},
        "output_schema": {"properties": {"n": N}, "title": "State", "type": "object"},
        "state_schema": {
            "properties": {"n": {"default": None, **N}},
            "title": "agent_state",
            "type": "object",
        },
        "config_schema": {},
        "context_schema": None,
        "drawing": {
            "nodes": [
                {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
                {"id": "step", "type": "runnable", "data": {"name": "step"}},
                {"id": "__end__"},
            ],
            "edges": [
                {"source": "__start__", "target": "step"},
                {"source": "step", "target": "__end__"},
            ],
        },
        "xrays": [],
        "subgraphs": {},
        "state_channels": ["n"],
        "initial_values": {},
    }


def test_info__of_nested_graphs(registry_of: RegistryOf) -> None:
    found = info(
        registry_of(
            """
            inner = StateGraph(State).add_node(step).add_edge(START, "step").compile()
            middle = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile()
            graph = StateGraph(State).add_node("middle", middle).add_edge(START, "middle")
            """
        )
    )

    nodes = [
        [node["id"] for node in drawing["nodes"] if not node["id"].startswith("__")]
        for drawing in (found["drawing"], *found["xrays"])
    ]
    assert nodes == [["middle"], ["middle:inner"], ["middle:inner:step"]]
    assert list(found["subgraphs"]) == ["middle", "middle|inner"]
    assert found["subgraphs"]["middle|inner"]["input_schema"]["properties"] == {"n": N}
    assert found["subgraphs"]["middle"]["config_schema"] == {}


def test_info__with_a_context(registry_of: RegistryOf) -> None:
    found = info(
        registry_of(
            """
            class Ctx(TypedDict):
                model: str
            graph = StateGraph(State, context_schema=Ctx).add_node(step).add_edge(START, "step")
            """
        )
    )

    assert found["context_schema"] == found["config_schema"]
    assert found["context_schema"]["properties"] == {"model": {"title": "Model", "type": "string"}}


def test_info__of_an_entrypoint(registry_of: RegistryOf) -> None:
    found = info(
        registry_of(
            """
            from langgraph.func import entrypoint
            @entrypoint()
            def graph(n: int) -> dict[str, int]:
                return {"n": n}
            """
        )
    )

    assert found["state_channels"] == "__end__"
    assert found["input_schema"]["type"] == "integer"
    assert found["state_schema"]["title"] == "agent_state"
    assert found["state_schema"]["additionalProperties"] == {"type": "integer"}


def test_info__of_messages_state(registry_of: RegistryOf) -> None:
    found = info(
        registry_of(
            """
            from langgraph.graph import MessagesState
            graph = StateGraph(MessagesState).add_node(step).add_edge(START, "step")
            """
        )
    )

    assert found["input_schema"]["title"] == "MessagesState"
    assert found["input_schema"]["required"] == ["messages"]
    assert "HumanMessage" in found["state_schema"]["$defs"]


def test_info__inputs_and_private_state_differ(registry_of: RegistryOf) -> None:
    found = info(
        registry_of(
            """
            class Out(TypedDict):
                answer: str
            class All(State, Out):
                hidden: str
            graph = StateGraph(All, input_schema=State, output_schema=Out)
            graph.add_node(step).add_edge(START, "step")
            """
        )
    )

    assert list(found["input_schema"]["properties"]) == ["n"]
    assert list(found["output_schema"]["properties"]) == ["answer"]
    assert sorted(found["state_channels"]) == ["answer", "hidden", "n"]


def test_info__what_a_state_begins_with(registry_of: RegistryOf) -> None:
    found = info(
        registry_of(
            """
            import operator
            from typing import Annotated
            class Reduced(State):
                log: Annotated[list, operator.add]
                total: Annotated[int, operator.add]
                seen: Annotated[set, operator.or_]
                last: str
            graph = StateGraph(Reduced).add_node(step).add_edge(START, "step")
            """
        )
    )

    assert found["initial_values"] == {"log": [], "total": 0, "seen": []}


@pytest.mark.parametrize(
    "field",
    [
        "bad: Odd",
        "bad: Annotated[str, Field(description='a NUL \\x00')]",
        "bad: Annotated[str, Field(description='half a pair \\ud800')]",
        "bad: Annotated[str, Field(json_schema_extra={'x': object()})]",
    ],
)
def test_info__of_a_type_that_cannot_be_described(registry_of: RegistryOf, field: str) -> None:
    found = info(
        registry_of(
            f"""
            from typing import Annotated
            from pydantic import Field
            class Odd:
                pass
            class Strange(TypedDict, total=False):
                n: int
                {field}
            graph = StateGraph(Strange).add_node(step).add_edge(START, "step")
            """
        )
    )

    assert found["input_schema"] is None
    assert found["state_schema"] is None
    assert found["state_channels"] == ["n", "bad"]
    assert len(found["drawing"]["nodes"]) == 3
