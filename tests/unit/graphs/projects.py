"""What the small user projects of these tests have in common."""

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
