"""The smallest graph that talks."""

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


async def echo(state: MessagesState) -> dict[str, list[AIMessage]]:
    return {"messages": [AIMessage(f"echo: {state['messages'][-1].text}")]}


graph = StateGraph(MessagesState).add_node(echo).add_edge(START, "echo").compile()
