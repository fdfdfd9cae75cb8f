"""A graph that calls the tools its input names: one that reports on the way, one that asks a graph, one that fails."""

from chat import graph as helper
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.types import Send
from steps import passage


@tool
async def count(upto: int, runtime: ToolRuntime, folder: str = "", hold: bool = False) -> str:
    """Count, and say each number."""
    for n in range(1, upto + 1):
        runtime.emit_output_delta(n)
    await passage({"folder": folder, "hold": ["count"] if hold else []}, "count")
    return f"counted to {upto}"


@tool
async def consult(question: str) -> str:
    """Ask a graph."""
    answer = await helper.ainvoke({"messages": [HumanMessage(question)]})
    return answer["messages"][-1].text


@tool
def stumble() -> str:
    """Fail."""
    raise ValueError("stumbled")


class State(MessagesState):
    calls: list[dict]


def call(state: State):
    calls = [{**each, "type": "tool_call"} for each in state["calls"]]
    return {"messages": [AIMessage("", id="calls", tool_calls=calls)]}


def dispatch(state: State):
    return [Send("tools", [each]) for each in state["messages"][-1].tool_calls]


graph = (
    StateGraph(State)
    .add_node(call)
    .add_node("tools", ToolNode([count, consult, stumble]))
    .add_edge(START, "call")
    .add_conditional_edges("call", dispatch, ["tools"])
    .compile()
)
