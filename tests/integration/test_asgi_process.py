"""`trellis web` as a process, with nobody who executes runs: streams stay open until it is told to stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path

import orjson
import pytest

PROJECT = Path(__file__).parent / "api" / "project" / "langgraph.json"

Connect = Callable[[], HTTPConnection]


@pytest.fixture
def web(database_url: str, redis_url: str) -> Iterator[subprocess.Popen[str]]:
    variables = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "TRELLIS_CONFIG": str(PROJECT),
        "PORT": "0",
        "TRELLIS_HOST": "127.0.0.1",
    }
    command = [str(Path(sys.executable).with_name("trellis")), "web"]
    with subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def connect(web: subprocess.Popen[str]) -> Iterator[Connect]:
    assert web.stdout is not None
    address = next(line for line in web.stdout if "listens on" in line).split()[-1]
    port = int(address.rsplit(":", 1)[1])
    with ExitStack() as stack:

        def connect() -> HTTPConnection:
            connection = HTTPConnection("127.0.0.1", port, timeout=20)
            stack.callback(connection.close)
            return connection

        yield connect


def post(connection: HTTPConnection, path: str, body: object) -> HTTPResponse:
    headers = {"content-type": "application/json"}
    connection.request("POST", path, orjson.dumps(body), headers)
    return connection.getresponse()


def when_ready(connect: Connect, path: str, body: object) -> HTTPResponse:
    """The answer, once the graphs have their assistants."""
    deadline = time.monotonic() + 10
    while (response := post(connect(), path, body)).status != 200:
        assert time.monotonic() < deadline, response.read()
    return response


def test_sigterm__ends_streams_so_that_clients_come_back(
    web: subprocess.Popen[str], connect: Connect
) -> None:
    streams = [when_ready(connect, "/runs/stream", {"assistant_id": "echo"}) for _ in range(20)]
    waits = [post(connect(), "/runs/wait", {"assistant_id": "echo"}) for _ in range(5)]

    began = time.monotonic()
    web.send_signal(signal.SIGTERM)
    endings = [cut_off(stream) for stream in streams]

    assert web.wait(10) == 0
    assert time.monotonic() - began < 5
    assert {ending[-14:] for ending in endings} == {b"retry: 200\r\n\r\n"}
    for wait in waits:
        cut_off(wait)


def cut_off(response: HTTPResponse) -> bytes:
    """What came of a body that must not pass for a whole one."""
    with pytest.raises(IncompleteRead) as cut:
        response.read()
    return cut.value.partial


def test_sigterm__does_not_wait_for_idle_connections(
    web: subprocess.Popen[str], connect: Connect
) -> None:
    connection = connect()
    connection.request("GET", "/ok")
    assert connection.getresponse().read()

    began = time.monotonic()
    web.send_signal(signal.SIGTERM)

    assert web.wait(10) == 0
    assert time.monotonic() - began < 2


def test_sigterm__accepts_no_more(web: subprocess.Popen[str], connect: Connect) -> None:
    port = connect().port
    web.send_signal(signal.SIGTERM)
    web.wait(10)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
