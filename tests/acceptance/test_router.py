"""Behind a platform's router: silence does not cost the connection, and a deploy costs no event."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import orjson
import pytest
from langgraph_sdk import get_sync_client

from acceptance.course import Course
from acceptance.router import Router
from acceptance.sse import HEARTBEAT, frames
from acceptance.system import ANSWER_SECONDS, Process, System

#: Less than two heartbeats, so that two of them show what one silence would cost.
IDLE_SECONDS = 9.0

Second = tuple[System, Process]


@pytest.fixture
def router(server: System) -> Iterator[Router]:
    with Router([server.port], first_byte_seconds=4.0, idle_seconds=IDLE_SECONDS).serving() as it:
        yield it


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def through(server: System, router: Router) -> System:
    """The server as clients see it behind the router."""
    return replace(server, port=router.port, processes=[])


def test_router__cuts_what_does_not_answer(silent: int) -> None:
    with Router([silent], first_byte_seconds=0.05, idle_seconds=9).serving() as router:
        connection = HTTPConnection("127.0.0.1", router.port, timeout=ANSWER_SECONDS)
        connection.request("GET", "/ok")

        assert connection.getresponse().status == 503
        connection.close()
    assert router.cuts == ["H12"]


def test_router__cuts_what_is_silent(server: System, course: Course) -> None:
    body = {"assistant_id": "steps", "input": course.input(hold=("one",))}
    router = Router([server.port], first_byte_seconds=4.0, idle_seconds=0.2)
    with router.serving():
        system = replace(server, port=router.port, processes=[])
        with system.open("POST", "/runs/stream", body) as response:
            assert HEARTBEAT not in _until_cut(response)
    course.open("one")
    assert router.cuts == ["H15"]


def _until_cut(response: HTTPResponse) -> bytes:
    read = b""
    while line := response.readline():
        read += line
    return read


def count(response: HTTPResponse, sign: bytes) -> bytes:
    """Read until a sign of life came twice."""
    read = b""
    while read.count(sign) < 2:
        some = response.read1(1)
        assert some, read
        read += some
    return read


def test_silence(through: System, router: Router, course: Course) -> None:
    """Of a run that says nothing, and of one that says what these clients are not sent."""
    quiet = {"assistant_id": "steps", "input": course.input(hold=("one",))}
    talk = {"assistant_id": "talking", "input": course.input(), "stream_mode": "custom"}
    with ExitStack() as stack:

        def ask(
            sign: bytes, method: str, path: str, body: Any = None
        ) -> tuple[HTTPResponse, bytes]:
            return stack.enter_context(through.open(method, path, body)), sign

        streamed = ask(HEARTBEAT, "POST", f"/threads/{through.new_thread()}/runs/stream", quiet)
        here = streamed[0].getheader("Content-Location")
        talking = through.post(f"/threads/{through.new_thread()}/runs", talk)
        there = f"/threads/{talking['thread_id']}/runs/{talking['run_id']}"
        asked = [
            streamed,
            ask(HEARTBEAT, "GET", f"{here}/stream"),
            ask(HEARTBEAT, "GET", f"{there}/stream?stream_mode=values"),
            ask(b"\n", "POST", "/runs/wait", quiet),
            ask(b"\n", "GET", f"{here}/join"),
            ask(b"\n", "GET", f"{there}/join"),
        ]
        with ThreadPoolExecutor() as pool:
            heads = list(pool.map(count, *zip(*asked, strict=True)))
        course.open("one")
        course.open("over")
        bodies = [head + response.read() for head, (response, _) in zip(heads, asked, strict=True)]

    assert router.cuts == []
    names = [[name for name, *_ in frames(body)] for body in bodies[:3]]
    # The second came when the run had begun, or just before.
    assert (names[0], names[1][-3:], names[2]) == (
        ["metadata", *["values"] * 4],
        ["values"] * 3,
        [],
    )
    values = [orjson.loads(body) for body in bodies[3:]]
    assert [len(each.get("log", ())) for each in values] == [3, 3, 0]
    assert len(values[2]["said"]) == 1


@pytest.fixture
def deploying(server: System, second: Second) -> Iterator[tuple[Any, Process]]:
    """A client behind a router in front of two web processes, and the one that it gets."""
    system, web = second
    router = Router([system.port, server.port], first_byte_seconds=9.0, idle_seconds=IDLE_SECONDS)
    with (
        router.serving(),
        get_sync_client(url=router.url, timeout=ANSWER_SECONDS) as client,
    ):
        yield client, web


def test_a_deploy__a_stream_goes_on(
    deploying: tuple[Any, Process], thread_id: str, course: Course
) -> None:
    client, web = deploying
    parts = client.runs.stream(
        thread_id,
        "steps",
        input=course.input(hold=("two",)),
        stream_mode=["updates", "values"],
        stream_resumable=True,
    )
    before = [next(parts) for _ in range(4)]
    course.wait_until_notes(">two")

    web.terminate()
    assert web.ends() == 0
    course.open("two")

    told = [(part.event, part.data) for part in [*before, *parts]]
    assert [name for name, _ in told] == ["metadata", "values", *["updates", "values"] * 3]
    assert [[*data] for name, data in told if name == "updates"] == [["one"], ["two"], ["three"]]


@pytest.mark.filterwarnings("ignore:Request failed, attempting reconnect")
@pytest.mark.parametrize("joins", [False, True])
def test_a_deploy__a_wait_goes_on(
    deploying: tuple[Any, Process],
    server: System,
    thread_id: str,
    course: Course,
    clients: ThreadPoolExecutor,
    joins: bool,
) -> None:
    client, web = deploying
    given: dict[str, Any] = {"assistant_id": "steps", "input": course.input(hold=("two",))}
    if joins:
        run = server.post(f"/threads/{thread_id}/runs", given)
        asking = clients.submit(client.runs.join, thread_id, run["run_id"])
    else:
        asking = clients.submit(client.runs.wait, thread_id, **given)
    course.wait_until_notes(">two")

    web.terminate()
    assert web.ends() == 0
    course.open("two")

    assert asking.result(ANSWER_SECONDS)["log"] == ["one", "two", "three"]
