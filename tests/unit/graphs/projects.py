"""What the small user projects of these tests have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trellis.graphs.registry import Factory, Registry

if TYPE_CHECKING:
    from trellis.graphs.registry import Graph

#: The head of most projects: a node, a builder, and the graph made of it.
GRAPH = """
from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    n: int

def step(state):
    return {"n": state.get("n", 0) + 1}

builder = StateGraph(State).add_node(step).add_edge(START, "step")
graph = builder.compile()
"""


def compiled(registry: Registry, graph_id: str) -> Graph:
    """Load a graph that needs no factory."""
    graph = registry.load(graph_id).graph
    assert not isinstance(graph, Factory)
    return graph
