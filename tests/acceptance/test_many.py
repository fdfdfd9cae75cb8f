"""Many threads and many workers at once."""

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from acceptance.course import Course
from acceptance.system import System, wait_for

THREADS = 50


@pytest.fixture
def two_workers(server: System) -> Iterator[System]:
    """The server with one worker more."""
    more = replace(server, processes=[])
    try:
        more.start_worker()
        yield server
        more.stop()
    finally:
        more.kill()


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


def test_two_workers__one_run_of_a_thread_at_a_time(two_workers: System, course: Course) -> None:
    threads = [two_workers.new_thread() for _ in range(8)]
    names = [f"{thread}/{n}" for n in range(5) for thread in range(8)]

    for name in names:
        thread_id = threads[int(name[0])]
        body = {"assistant_id": "steps", "input": course.input(name=name)}
        two_workers.post(f"/threads/{thread_id}/runs", body)
    wait_for(lambda: len(course.journal()) == 6 * len(names), what="the end of all runs")

    steps = [f"{mark}{step}" for step in ("one", "two", "three") for mark in "><"]
    for thread in range(8):
        noted = [line for line in course.journal() if line.startswith(f"{thread}/")]
        assert noted == [f"{thread}/{n}{step}" for n in range(5) for step in steps]
