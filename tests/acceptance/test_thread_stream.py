"""The stream of a thread through the official client: with web processes that come and go, and a Redis that forgets."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import IncompleteRead
from itertools import islice
from typing import Any

import pytest
import redis
from langgraph_sdk import get_sync_client

from acceptance.course import Course
from acceptance.system import ANSWER_SECONDS, Process, System

Second = tuple[System, Process]


@pytest.fixture
def follow() -> Iterator[Callable[..., Iterator[Any]]]:
    """What a client hears of a thread at a web process."""
    with ExitStack() as stack:

        def follow(system: System, thread_id: str, **options: Any) -> Iterator[Any]:
            client = get_sync_client(url=system.url, timeout=ANSWER_SECONDS)
            stack.enter_context(client)
            return stack.enter_context(
                closing(client.threads.join_stream(thread_id, **options))  # type: ignore[type-var]
            )

        yield follow


Follow = Callable[..., Iterator[Any]]

ONE_RUN = ["metadata", "values", "values", "values", "values", "done"]


def shown(parts: list[Any]) -> list[str]:
    return ["done" if part.data.get("status") == "run_done" else part.event for part in parts]


def start(system: System, thread_id: str, course: Course, *, hold: tuple[str, ...] = ()) -> None:
    body = {"assistant_id": "steps", "input": course.input(hold=hold)}
    system.post(f"/threads/{thread_id}/runs", {**body, "multitask_strategy": "enqueue"})


def test_join_stream__at_two_web_processes(
    server: System, second: Second, course: Course, follow: Follow
) -> None:
    thread_id = server.new_thread()
    start(server, thread_id, course)
    start(second[0], thread_id, course)

    streams = [follow(each, thread_id, last_event_id="0") for each in (server, second[0])]
    heard = [list(islice(stream, 12)) for stream in streams]

    assert shown(heard[0]) == ONE_RUN * 2
    assert heard[0] == heard[1]


def test_join_stream__only_starts_and_ends(server: System, course: Course, follow: Follow) -> None:
    thread_id = server.new_thread()
    start(server, thread_id, course)

    stream = follow(server, thread_id, last_event_id="0", stream_mode=["lifecycle"])

    assert shown(list(islice(stream, 2))) == ["metadata", "done"]


def test_join_stream__goes_on_at_another_web_process(
    server: System, second: Second, course: Course, follow: Follow
) -> None:
    system, web = second
    thread_id = server.new_thread()
    start(server, thread_id, course, hold=("two",))
    seen = list(islice(follow(system, thread_id, last_event_id="0"), 3))
    web.kill()
    course.open("two")

    rest = list(islice(follow(server, thread_id, last_event_id=seen[-1].id), 3))

    assert shown(seen + rest) == ONE_RUN


def test_join_stream__redis_forgets_everything(
    server: System, course: Course, follow: Follow
) -> None:
    thread_id = server.new_thread()
    start(server, thread_id, course, hold=("two",))
    stream = follow(server, thread_id, last_event_id="0")
    seen = list(islice(stream, 3))
    with redis.Redis.from_url(server.redis_url, protocol=2) as client:
        client.flushdb()
    course.open("two")
    seen += islice(stream, 3)
    start(server, thread_id, course)
    seen += islice(stream, 6)

    assert shown(seen[:6]) == shown(seen[6:]) == ONE_RUN


def test_join_stream__a_web_process_that_is_asked_to_leave(
    server: System, second: Second, course: Course
) -> None:
    system, web = second
    thread_id = server.new_thread()
    with system.open("GET", f"/threads/{thread_id}/stream") as response:
        web.terminate()
        with pytest.raises(IncompleteRead) as cut:
            response.read()

    assert cut.value.partial.endswith(b"retry: 200\r\n\r\n")
    assert web.ends() == 0
