"""Many threads at once, through the async client."""

import asyncio
import uuid
from typing import Any

from langgraph_sdk.client import LangGraphClient

THREADS = 50


def test_threads_at_once(async_client: LangGraphClient, runner: asyncio.Runner) -> None:
    async def turn(thread_id: str, word: str) -> Any:
        return await async_client.runs.wait(
            thread_id, "compiled", input={"said": [word]}, if_not_exists="create"
        )

    async def talk(n: int) -> Any:
        thread_id = str(uuid.uuid4())
        await turn(thread_id, f"{n} a")
        return await turn(thread_id, f"{n} b")

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(talk(n) for n in range(THREADS)))

    values = runner.run(all_of_them())

    assert values == [
        {"said": [f"{n} a", "compiled", f"{n} b", "compiled"]} for n in range(THREADS)
    ]


def test_streams_at_once(async_client: LangGraphClient, runner: asyncio.Runner) -> None:
    async def stream() -> list[str]:
        parts = async_client.runs.stream(
            None,
            "chat",
            input={"messages": [("user", "hi")]},
            stream_mode="messages-tuple",
        )
        return [part.data[0]["content"] async for part in parts if part.event == "messages"]

    async def all_of_them() -> list[list[str]]:
        return await asyncio.gather(*(stream() for _ in range(THREADS)))

    streams = runner.run(all_of_them())

    assert streams == [[*"hello there", "yours, the graph"]] * THREADS
