"""From ASGI to Flask: a view runs in a thread; an async body it returns is iterated on the event loop.

Measured against gunicorn's workers and a2wsgi, this serves the most requests and streams of one process: a thread is
only held while a view runs, and a stream costs two tasks.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from flask import Flask, Response

from trellis.api.bodies import AsyncBody

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Lifespan = Callable[[], AbstractAsyncContextManager[None]]

#: Headers that CGI names without the HTTP_ prefix.
_PLAIN = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


class TooLarge(Exception):
    """The request's body passes the limit."""


class Gone(Exception):
    """The client hung up."""


class Bridge:
    """The ASGI application. `lifespan` is entered when the server starts and left when it stops."""

    def __init__(
        self, flask: Flask, *, lifespan: Lifespan, threads: int, max_body_bytes: int
    ) -> None:
        self._flask = flask
        self._lifespan = lifespan
        self._limit = max_body_bytes
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="view")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 4404, "reason": "Not Found"})
            case "lifespan":
                await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self._lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        self._pool.shutdown(wait=False)
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await _read(scope, receive, self._limit)
        except TooLarge:
            await _send(send, *_too_large(self._limit))
            return
        except Gone:
            return
        loop = asyncio.get_running_loop()
        environ = environ_of(scope, body)
        answered = loop.run_in_executor(self._pool, _respond, self._flask, environ)
        status, headers, answer = await answered
        if isinstance(answer, AsyncBody):
            await _relay(send, receive, status, headers, answer.chunks)
        else:
            await _send(send, status, headers, answer)


def _respond(flask: Flask, environ: dict[str, Any]) -> tuple[int, Headers, bytes | AsyncBody]:
    """Run the view. In a thread of the pool."""
    response = dispatch(flask, environ)
    headers = [(k.lower().encode("latin1"), v.encode("latin1")) for k, v in response.headers]
    if isinstance(response.response, AsyncBody):
        if environ["REQUEST_METHOD"] == "HEAD":
            return response.status_code, headers, b""
        return response.status_code, headers, response.response
    return (
        response.status_code,
        headers,
        b"" if environ["REQUEST_METHOD"] == "HEAD" else response.get_data(),
    )


def dispatch(flask: Flask, environ: Mapping[str, Any]) -> Response:
    """What Flask's `wsgi_app` does, without iterating the body."""
    with flask.request_context(dict(environ)):
        try:
            return flask.full_dispatch_request()
        except Exception as error:
            return flask.handle_exception(error)


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes:
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limit:
            raise TooLarge
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLarge
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _too_large(limit: int) -> tuple[int, Headers, bytes]:
    body = orjson.dumps({"detail": f"The request body is larger than {limit} bytes"})
    # The rest of the body is not read: the connection cannot be used again.
    return 413, [(b"content-type", b"application/json"), (b"connection", b"close")], body


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    if not any(name == b"content-length" for name, _ in headers) and status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _relay(
    send: Send, receive: Receive, status: int, headers: Headers, chunks: AsyncIterator[bytes]
) -> None:
    """Send chunks as they come. A client that hangs up cancels them."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    sending = asyncio.ensure_future(_send_chunks(send, chunks))
    leaving = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.wait({sending, leaving})
    # A body that failed must not look complete: the exception makes the server cut the connection.
    if not sending.cancelled() and (error := sending.exception()):
        raise error


async def _send_chunks(send: Send, chunks: AsyncIterator[bytes]) -> None:
    try:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def environ_of(scope: Scope, body: bytes) -> dict[str, Any]:
    """The WSGI environment of an ASGI request (PEP 3333: text is bytes read as Latin-1)."""
    host, port = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope.get("root_path", ""),
        "PATH_INFO": scope["path"].encode("utf8", "surrogateescape").decode("latin1"),
        "QUERY_STRING": scope["query_string"].decode("latin1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if scope.get("client"):
        environ["REMOTE_ADDR"] = scope["client"][0]
    for name, value in scope["headers"]:
        key = _PLAIN.get(name) or "HTTP_" + name.decode("latin1").upper().replace("-", "_")
        text = value.decode("latin1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    # A chunked body has been read whole by now.
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return environ
