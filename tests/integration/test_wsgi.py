"""The same application under a plain WSGI server, one thread per request."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
import pytest
import redis

from trellis.stream import log

PROJECT = Path(__file__).parent / "api" / "project" / "langgraph.json"

OWN_MEMORY = """
from langgraph.store.memory import InMemoryStore

async def opened():
    return InMemoryStore()
"""


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        """Tests speak for themselves."""


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The project; or one with a store of its own, if keys of langgraph.json are given."""
    if not hasattr(request, "param"):
        return PROJECT
    (tmp_path / "own_memory.py").write_text(OWN_MEMORY)
    config = tmp_path / "langgraph.json"
    config.write_bytes(orjson.dumps({"graphs": {"g": "./g.py:g"}, **request.param}))
    return config


@pytest.fixture
def port(
    database_url: str, redis_url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("TRELLIS_CONFIG", str(config))
    sys.modules.pop("trellis.wsgi", None)
    from trellis.wsgi import app

    with make_server("127.0.0.1", 0, app, server_class=Server, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
    app.close()


def ask(port: int, method: str, path: str, body: object = None) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    sent = None if body is None else orjson.dumps(body)
    connection.request(
        method, path, sent, {"content-type": "application/json", "last-event-id": "-1"}
    )
    return connection.getresponse()


def test_view(port: int) -> None:
    assert ask(port, "GET", "/ok").read() == b'{"ok":true,"services":{}}'


@pytest.fixture
def stream(port: int, redis_url: str) -> str:
    """The path of the stream of a run that somebody else finishes."""
    body = {"assistant_id": "echo", "stream_resumable": True}
    run = orjson.loads(ask(port, "POST", "/runs", body).read())
    entries = [
        {"e": "values", "x": "event: values\r\ndata: {}\r\n"},
        {"end": "success", "v": "{}"},
    ]
    with redis.Redis.from_url(redis_url) as client:
        for n, entry in enumerate(entries, 1):
            key = log.stream_key("", run["run_id"])
            client.xadd(key, {"f": "1", "n": n, **entry}, id=f"{n}-0")
    return f"/threads/{run['thread_id']}/runs/{run['run_id']}/stream"


def test_stream(port: int, stream: str) -> None:
    response = ask(port, "GET", stream)

    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.read() == b"event: values\r\ndata: {}\r\nid: 1-0\r\n\r\n"


def test_stream__head_has_no_body(port: int, stream: str) -> None:
    response = ask(port, "HEAD", stream)

    assert response.status == 200
    assert response.read() == b""


@pytest.mark.parametrize("config", [{"store": {"path": "./own_memory.py:opened"}}], indirect=True)
def test_own_store(port: int) -> None:
    item = {"namespace": ["a"], "key": "k", "value": {"v": 1}}

    assert ask(port, "PUT", "/store/items", item).status == 204
    answer = orjson.loads(ask(port, "GET", "/store/items?namespace=a&key=k").read())
    assert answer["value"] == {"v": 1}
