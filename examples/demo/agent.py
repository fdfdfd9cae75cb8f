"""A chat agent with one tool. Swap ScriptedChatModel for a real model and it is yours."""

from langchain_core.messages import AnyMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from scripted_model import ScriptedChatModel, calculate

model = ScriptedChatModel().bind_tools([calculate])


async def call_model(state: MessagesState) -> dict[str, list[AnyMessage]]:
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = (
    StateGraph(MessagesState)
    .add_node("model", call_model)
    .add_node("tools", ToolNode([calculate]))
    .add_edge(START, "model")
    .add_conditional_edges("model", tools_condition)
    .add_edge("tools", "model")
    .compile()
)
