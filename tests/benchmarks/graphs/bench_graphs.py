"""The graphs of the benchmark: each does one thing, so that the server's own cost is what is left."""

import asyncio
import operator
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from typing_extensions import TypedDict

TOKENS = 200
EVENTS = 20_000
#: 50 tokens a second, so that 200 tokens ideally take 4.0 s.
SLOW_TOKEN_SECONDS = 0.02
CPU_SECONDS = 0.1


class Work(TypedDict, total=False):
    """State of the graphs that do not talk."""

    seconds: float
    done: Annotated[list[str], operator.add]


Node = Callable[[Any], Awaitable[dict[str, Any]]]


class FixedTokens(BaseChatModel):
    """A chat model that says the same number of tokens at a steady pace."""

    count: int = TOKENS
    pause: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "fixed-tokens"

    def _chunks(self) -> Iterator[ChatGenerationChunk]:
        for number in range(self.count):
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"word{number} "))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text = "".join(str(chunk.message.content) for chunk in self._chunks())
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks():
            if self.pause:
                await asyncio.sleep(self.pause)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


def line(schema: type, nodes: dict[str, Node]) -> Any:
    """Compile nodes that follow each other."""
    builder = StateGraph(schema)
    names = list(nodes)
    for name, node in nodes.items():
        builder.add_node(name, node)
    for source, target in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(source, target)
    return builder.compile()


async def answer(state: MessagesState) -> dict[str, Any]:
    """Repeat the last message."""
    return {"messages": [AIMessage(content=f"echo: {state['messages'][-1].content}")]}


def talk(model: BaseChatModel) -> Node:
    """Make a node that lets a model answer."""

    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return node


def step(number: int) -> Node:
    """Make a node that only says that it ran."""

    async def node(state: Work) -> dict[str, Any]:
        return {"done": [f"step {number}"]}

    return node


async def shout(state: Work) -> dict[str, Any]:
    """Send events as fast as the server takes them."""
    write = get_stream_writer()
    for number in range(EVENTS):
        write({"number": number})
        if number % 50 == 0:
            await asyncio.sleep(0)
    return {"done": ["shouted"]}


async def rest(state: Work) -> dict[str, Any]:
    """Wait without using anything: a call to a slow service."""
    await asyncio.sleep(state.get("seconds", 1.0))
    return {"done": ["rested"]}


async def block(state: Work) -> dict[str, Any]:
    """Block the event loop, as a careless blocking call in an async node does."""
    time.sleep(state.get("seconds", 6.0))
    return {"done": ["blocked"]}


def burn() -> None:
    """Use CPU in pure Python, measured by the thread's own clock."""
    until = time.thread_time() + CPU_SECONDS
    while time.thread_time() < until:
        sum(range(200))


async def compute(state: Work) -> dict[str, Any]:
    """Use CPU in a thread, as a well-behaved node does."""
    await asyncio.to_thread(burn)
    return {"done": ["computed"]}


echo = line(MessagesState, {"answer": answer})
ten = line(Work, {f"step_{number}": step(number) for number in range(1, 11)})
tokens = line(MessagesState, {"model": talk(FixedTokens())})
tokslow = line(MessagesState, {"model": talk(FixedTokens(pause=SLOW_TOKEN_SECONDS))})
burst = line(Work, {"shout": shout})
sleepy = line(Work, {"rest": rest})
hold = line(Work, {"rest": rest})
blocker = line(Work, {"block": block})
cpu = line(Work, {"compute": compute})
