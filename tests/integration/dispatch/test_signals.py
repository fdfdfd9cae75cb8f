"""Signals: heard at once, by every worker, also after Redis dropped the connection."""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from trellis.dispatch.announce import connect
from trellis.dispatch.signals import Listener, Signals, channel


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url, max_connections=2) as client:
        yield client


@pytest.fixture
def listen(redis_url: str) -> Iterator[Callable[..., queue.SimpleQueue[str]]]:
    listeners: list[Listener] = []

    def start(prefix: str = "") -> queue.SimpleQueue[str]:
        heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        listeners.append(Listener(redis_url, key_prefix=prefix, heard=heard.put))
        assert listeners[-1].is_listening.wait(5)
        return heard

    yield start
    for listener in listeners:
        listener.close()


def test_signals(client, listen):
    first, second = listen(), listen()

    assert Signals(client)(["r-1", "r-2"])

    for heard in (first, second):
        assert [heard.get(timeout=2), heard.get(timeout=2)] == ["r-1", "r-2"]


def test_signals__of_another_installation(client, listen):
    ours, theirs = listen("a:"), listen("b:")

    Signals(client, key_prefix="b:")(["r-1"])

    assert theirs.get(timeout=2) == "r-1"
    assert ours.empty()


def test_listener__connects_again(client, listen):
    heard = listen()
    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    deadline = time.monotonic() + 10
    while heard.empty() and time.monotonic() < deadline:
        client.publish(channel(""), "r-1")

    assert heard.get(timeout=1) == "r-1"


def test_signals__nobody_to_tell(client):
    assert not Signals(client)([])


def test_signals__redis_is_down():
    """It says so, and does not try again at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    signals = Signals(connect(f"redis://127.0.0.1:{port}", max_connections=1))

    assert not signals(["r-1"])
    with socket.create_server(("127.0.0.1", port)) as server:
        assert not signals(["r-1"])

        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
