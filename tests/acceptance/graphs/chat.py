"""A chat model without a model: it answers letter by letter; and nodes that send events of their own."""

import asyncio
import operator
import os
import time
from pathlib import Path
from typing import Annotated, TypedDict

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.stream import StreamChannel, StreamTransformer
from steps import PATIENCE_SECONDS, note

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


class Shout(TypedDict, total=False):
    times: int
    size: int
    done: bool


async def shout(state: Shout):
    """Sends events of a size, as fast as it can."""
    write = get_stream_writer()
    for n in range(state["times"]):
        write(f"{n}:" + "x" * state["size"])
        await asyncio.sleep(0)
    return {"done": True}


shouting = StateGraph(Shout).add_node(shout).add_edge(START, "shout").compile()


class Letters(StreamTransformer):
    """Counts the letters that models write, and tells of the sum on a channel of its own."""

    required_stream_modes = ("messages",)

    def __init__(self, scope: tuple[str, ...] = ()):
        super().__init__(scope)
        self.letters = StreamChannel("letters")
        self.count = 0

    def init(self):
        return {"letters": self.letters}

    def process(self, event):
        if event["method"] == "messages" and isinstance(event["params"]["data"][0], dict):
            self.count += len(event["params"]["data"][0].get("delta", {}).get("text", ""))
        return True

    def finalize(self):
        self.letters.push(self.count)


counted = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer")
counted = counted.compile(transformers=[Letters])


class Breathless(FakeListChatModel):
    """Speaks without ever giving the event loop a turn, and falls silent until the test has heard it."""

    folder: str = ""

    async def _astream(self, *_, **__):
        for word in ("hear", " me", " out", " now"):
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        end = time.monotonic() + 10
        while not (Path(self.folder) / "heard").exists():
            if time.monotonic() > end:
                raise TimeoutError("nobody heard it")
            time.sleep(0.005)


class Speech(MessagesState, total=False):
    folder: str


async def speak(state: Speech):
    model = Breathless(responses=[], folder=state["folder"])
    return {"messages": [await model.ainvoke(state["messages"])]}


breathless = StateGraph(Speech).add_node(speak).add_edge(START, "speak").compile()


class Talk(TypedDict, total=False):
    folder: str
    said: Annotated[list[int], operator.add]


async def talk(state: Talk):
    """Says, over and over, in which process it runs, until the test makes a file."""
    write = get_stream_writer()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (Path(state["folder"]) / "over").exists():
            write(os.getpid())
            note(state, str(os.getpid()))
            await asyncio.sleep(0.01)
    return {"said": [os.getpid()]}


talking = StateGraph(Talk).add_node(talk).add_edge(START, "talk").compile()
