"""A chat model without a model: it answers letter by letter; and nodes that send events of their own."""

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph

ANSWER = "hello there"

model = FakeListChatModel(responses=[ANSWER])


async def answer(state: MessagesState):
    return {"messages": [await model.ainvoke(state["messages"])]}


def sign(state: MessagesState):
    return {"messages": [AIMessage("yours, the graph", id="signature")]}


graph = (
    StateGraph(MessagesState)
    .add_node(answer)
    .add_node(sign)
    .add_edge(START, "answer")
    .add_edge("answer", "sign")
    .compile()
)

nested = StateGraph(MessagesState).add_node("child", graph).add_edge(START, "child").compile()


def chat(state: MessagesState):
    write = get_stream_writer()
    write({"progress": 1})
    write("plain text")
    write({"when": {1}, "nested": [None, True, 1.5, "ü"]})
    return {"messages": [("ai", "done")]}


chatter = StateGraph(MessagesState).add_node(chat).add_edge(START, "chat").compile()
