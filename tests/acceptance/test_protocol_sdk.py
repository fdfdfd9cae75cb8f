"""Protocol v2 through `client.threads.stream` of the official client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from acceptance.course import Course
from acceptance.system import ANSWER_SECONDS

HI = {"messages": [("user", "hi")]}
ANSWER = "hello there"

OnLoop = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def on_loop(runner: asyncio.Runner) -> OnLoop:
    async def in_time(work: Coroutine[Any, Any, Any]) -> Any:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await work

    return lambda work: runner.run(in_time(work))


def test_output_and_messages(async_client: LangGraphClient, on_loop: OnLoop) -> None:
    async def use() -> tuple[Any, list[str]]:
        async with async_client.threads.stream(assistant_id="chat") as thread:
            await thread.run.start(input=HI)
            # The client feeds a message while it looks for the next one.
            messages = [message async for message in thread.messages]
            return await thread.output, [await message.text for message in messages]

    output, texts = on_loop(use())

    assert texts == [ANSWER, "yours, the graph"]
    assert [each["id"] for each in output["messages"]][-1] == "signature"


def test_message_deltas(async_client: LangGraphClient, on_loop: OnLoop) -> None:
    async def use() -> list[str]:
        async with async_client.threads.stream(assistant_id="chat") as thread:
            await thread.run.start(input=HI)
            [message, _] = [message async for message in thread.messages]
            return [delta async for delta in message.text]

    assert on_loop(use()) == [*ANSWER]


def test_values(async_client: LangGraphClient, on_loop: OnLoop, course: Course) -> None:
    async def use() -> list[Any]:
        async with async_client.threads.stream(assistant_id="steps") as thread:
            await thread.run.start(input=course.input())
            return [state.get("log") async for state in thread.values]

    logs = on_loop(use())

    # The first is what the thread's state was when the client asked for it.
    assert logs[1:] == [[], ["one"], ["one", "two"], ["one", "two", "three"]]


def test_an_answer(async_client: LangGraphClient, on_loop: OnLoop) -> None:
    async def use() -> Any:
        async with async_client.threads.stream(assistant_id="hitl") as thread:
            await thread.run.start(input={"value": "q"})
            async for _ in thread.values:
                pass
            assert thread.interrupted
            [question] = thread.interrupts
            assert question["namespace"] == []
            await thread.run.respond("yes")
            return await thread.output

    output = on_loop(use())

    assert (output["answer"], output["log"]) == ("yes", ["prepare", "ask", "finish"])


def test_an_answer_below(async_client: LangGraphClient, on_loop: OnLoop) -> None:
    async def use() -> Any:
        async with async_client.threads.stream(assistant_id="nested_question") as thread:
            await thread.run.start(input={"value": "q"})
            async for _ in thread.values:
                pass
            await thread.run.respond("yes")
            return await thread.output

    assert on_loop(use())["answer"] == "yes"


def test_a_failure(async_client: LangGraphClient, on_loop: OnLoop) -> None:
    async def use() -> Any:
        async with async_client.threads.stream(assistant_id="failing") as thread:
            await thread.run.start(input={})
            return await thread.output

    with pytest.raises(RuntimeError, match="Run errored: boom"):
        on_loop(use())


def test_a_refusal(async_client: LangGraphClient, on_loop: OnLoop) -> None:
    async def use() -> Any:
        async with async_client.threads.stream(assistant_id="nobody") as thread:
            await thread.run.start(input={})

    with pytest.raises(RuntimeError, match="Invalid assistant: 'nobody'"):
        on_loop(use())


def test_tools(async_client: LangGraphClient, on_loop: OnLoop) -> None:
    calls = [{"name": "count", "args": {"upto": 3}, "id": "c1"}]

    async def use() -> Any:
        async with async_client.threads.stream(assistant_id="tooled") as thread:
            await thread.run.start(input={"calls": calls})
            [call] = [call async for call in thread.tool_calls]
            deltas = [delta async for delta in call.deltas]
            return call.name, call.input, deltas, await call.output

    name, given, deltas, output = on_loop(use())

    assert (name, given, deltas) == ("count", {"upto": 3}, ["1", "2", "3"])
    assert output["content"] == "counted to 3"


def test_subgraphs(async_client: LangGraphClient, on_loop: OnLoop) -> None:
    async def use() -> Any:
        async with async_client.threads.stream(assistant_id="nested_chat") as thread:
            await thread.run.start(input=HI)
            [child] = [child async for child in thread.subgraphs]
            messages = [message async for message in child.messages]
            return child.graph_name, [await message.text for message in messages]

    assert on_loop(use()) == ("child", [ANSWER, "yours, the graph"])


def test_named_channels(async_client: LangGraphClient, on_loop: OnLoop) -> None:
    async def use() -> Any:
        async with async_client.threads.stream(assistant_id="counted") as thread:
            await thread.run.start(input=HI)
            return [each["payload"] async for each in thread.extensions["letters"]]

    assert on_loop(use()) == [len(ANSWER)]
