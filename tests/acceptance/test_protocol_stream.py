"""Protocol v2 through the official clients, over both transports, with web processes that come and go."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import orjson
import pytest
import redis
from langgraph_sdk import get_sync_client

from acceptance.course import Course
from acceptance.system import ANSWER_SECONDS, Process, System, wait_for

Second = tuple[System, Process]
BOTH = pytest.mark.parametrize("transport", ["sse", "websocket"])


@pytest.fixture
def converse(server: System) -> Iterator[Callable[..., Any]]:
    """A client's session with a thread."""
    with ExitStack() as stack:
        client = stack.enter_context(get_sync_client(url=server.url, timeout=ANSWER_SECONDS))

        def converse(assistant_id: str, transport: str, **options: Any) -> Any:
            made = client.threads.stream(assistant_id=assistant_id, transport=transport, **options)
            return stack.enter_context(made)

        yield converse


Converse = Callable[..., Any]


@BOTH
def test_stream__values(converse: Converse, course: Course, transport: str) -> None:
    thread = converse("steps", transport)
    thread.run.start(input=course.input())

    # The client shows the state as it finds it first, wherever the run is by then.
    logs = [state.get("log") for state in list(thread.values)[1:]]

    assert logs == [[], ["one"], ["one", "two"], ["one", "two", "three"]][-len(logs) :]
    assert thread.output["log"] == ["one", "two", "three"]


@BOTH
def test_stream__messages(converse: Converse, transport: str) -> None:
    thread = converse("chat", transport)
    thread.run.start(input={"messages": [("user", "hi")]})

    texts = [str(message.text) for message in thread.messages]

    assert texts == ["hello there", "yours, the graph"]


@BOTH
def test_stream__a_question_and_its_answer(converse: Converse, transport: str) -> None:
    thread = converse("hitl", transport)
    thread.run.start(input={"value": "x"})
    states = list(thread.values)
    assert thread.interrupted
    [question] = thread.interrupts
    assert question["namespace"] == []

    # Reading already: what comes while nobody reads is lost on this client.
    values = iter(thread.values)
    states.append(next(values))
    thread.run.respond("yes", interrupt_id=question["interrupt_id"])

    assert [*states, *values][-1]["answer"] == "yes"
    # The client hears of it on another connection.
    wait_for(lambda: not thread.interrupted, what="the client to know")


@BOTH
def test_stream__one_run_after_the_other(
    converse: Converse, course: Course, transport: str
) -> None:
    thread = converse("steps", transport)
    thread.run.start(input=course.input())
    assert list(thread.values)[-1]["log"] == ["one", "two", "three"]
    # Reading already, as above.
    values = iter(thread.values)
    next(values)
    thread.run.start(input=course.input())

    assert list(values)[-1]["log"] == ["one", "two", "three"] * 2


# Several web processes


def start(system: System, thread_id: str, course: Course, *, hold: tuple[str, ...] = ()) -> None:
    params = {"assistant_id": "steps", "input": course.input(hold=hold)}
    command = {"id": 1, "method": "run.start", "params": params}
    assert system.post(f"/threads/{thread_id}/commands", command)["type"] == "success"


def listen(system: System, thread_id: str, count: int | None = None, **fields: Any) -> list[Any]:
    """The next events of a thread: so many, or up to the end of a run."""
    body = {"channels": ["values", "lifecycle"], **fields}
    with system.open("POST", f"/threads/{thread_id}/stream/events", body) as response:
        data = (line[6:] for line in iter(response.readline, b"") if line.startswith(b"data: "))
        events = (orjson.loads(each) for each in data)
        if count is not None:
            return list(islice(events, count))
        told = list[Any]()
        while not told or told[-1]["params"]["data"].get("event") != "completed":
            told.append(next(events))
        return told


def seqs(events: list[Any]) -> list[int]:
    return [event["seq"] for event in events]


def test_events__at_two_web_processes(server: System, second: Second, course: Course) -> None:
    thread_id = server.new_thread()
    start(server, thread_id, course)
    first = listen(server, thread_id, 6)
    start(second[0], thread_id, course)

    here, there = (listen(each, thread_id, 12) for each in (server, second[0]))

    assert [each["event_id"] for each in here] == [each["event_id"] for each in there]
    assert seqs(here) == seqs(there) == sorted(set(seqs(here)))
    assert here[:5] == first[:5]


def test_events__go_on_at_another_web_process(
    server: System, second: Second, course: Course
) -> None:
    system, web = second
    thread_id = server.new_thread()
    start(system, thread_id, course, hold=("two",))
    seen = listen(system, thread_id, 3)
    web.kill()
    course.open("two")

    rest = listen(server, thread_id, 3, since=seen[-1]["seq"])

    logs = [each["params"]["data"].get("log") for each in seen + rest]
    assert logs == [None, [], ["one"], ["one", "two"], ["one", "two", "three"], None]
    assert seqs(seen + rest) == sorted(set(seqs(seen + rest)))


def test_events__redis_forgets_everything(server: System, course: Course) -> None:
    thread_id = server.new_thread()
    start(server, thread_id, course, hold=("two",))
    seen = listen(server, thread_id, 3)
    with redis.Redis.from_url(server.redis_url, protocol=2) as client:
        client.flushdb()
    course.open("two")
    rest = listen(server, thread_id, since=seen[-1]["seq"])
    start(server, thread_id, course)
    later = listen(server, thread_id, 6, since=rest[-1]["seq"])

    assert rest[-2]["params"]["data"]["log"] == ["one", "two", "three"]
    states = [each["params"]["data"] for each in later]
    assert [state.get("event") for state in states] == ["running", *[None] * 4, "completed"]
    assert seqs(seen + rest + later) == sorted(set(seqs(seen + rest + later)))
