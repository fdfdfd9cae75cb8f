"""From ASGI to Flask: a view runs in a thread; an async body it returns is iterated on the event loop.

Measured against gunicorn's workers and a2wsgi, this serves the most requests and streams of one process: a thread is
only held while a view runs, and a stream costs two tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from flask import Flask, Response

from trellis import telemetry
from trellis.api import sockets
from trellis.api.access import WHO
from trellis.api.bodies import AsyncBody
from trellis.api.commands import FRAME
from trellis.errors import Unavailable

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Lifespan = Callable[[], AbstractAsyncContextManager[None]]

#: Headers that CGI names without the HTTP_ prefix.
_PLAIN = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}

#: How long a refused body is still read: a client that is cut off while it sends does not see the answer.
_DISCARD_SECONDS = 2.0


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
                await self._websocket(scope, receive, send)
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
        self._pool.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(scope, receive, self._limit)
        except TooLarge:
            await refuse_body(send, receive, self._limit)
            return
        except Gone:
            return
        # What the view binds to the context goes on to its body, and not to the thread's next view.
        context = contextvars.copy_context()
        environ = environ_of(scope, body)
        if WHO in scope:
            environ[WHO] = scope[WHO]
        status, headers, answer = await asyncio.get_running_loop().run_in_executor(
            self._pool, context.run, _respond, self._flask, environ
        )
        if isinstance(answer, AsyncBody):
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await _relay(send, receive, answer, context)
        else:
            await _send(send, status, headers, answer)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = sockets.thread_path(scope["path"].removeprefix(scope.get("root_path", "")))
        if path is None:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "Not Found"})
            return

        async def ask(path: str, body: bytes) -> Response:
            context = contextvars.copy_context()
            environ = _frame_environ(scope, path, body)
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, context.run, dispatch, self._flask, environ
            )

        await sockets.converse(path, receive, send, ask)


def _frame_environ(scope: Scope, path: str, body: bytes) -> dict[str, Any]:
    """The WSGI environment of a frame: a POST with the headers of its socket's handshake."""
    own = (b"content-type", b"content-length", b"upgrade", b"connection", b"idempotency-key")
    headers = [(name, value) for name, value in scope["headers"] if name not in own]
    request = {
        **scope,
        "method": "POST",
        "path": scope.get("root_path", "") + path,
        "scheme": "https" if scope.get("scheme") == "wss" else "http",
        "http_version": "1.1",
        "headers": [*headers, (b"content-type", b"application/json")],
    }
    environ = environ_of(request, body)
    environ[FRAME] = True
    if WHO in scope:
        environ[WHO] = scope[WHO]
    return environ


def _respond(flask: Flask, environ: dict[str, Any]) -> tuple[int, Headers, bytes | AsyncBody]:
    """Run the view. In a thread of the pool."""
    response = dispatch(flask, environ)
    headers = [
        (k.lower().encode("latin1"), v.encode("latin1")) for k, v in _headers(response, environ)
    ]
    if isinstance(response.response, AsyncBody) and environ["REQUEST_METHOD"] != "HEAD":
        return response.status_code, headers, response.response
    with contextlib.closing(response):
        return response.status_code, headers, b"".join(response.get_app_iter(environ))


def _headers(response: Response, environ: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """The headers to send. Werkzeug looks anew at every location for letters beyond ASCII; ids have none."""
    has_body = response.status_code >= 200 and response.status_code not in (204, 304)
    if has_body and response.headers.get("Location", "").isascii():
        return response.headers
    return response.get_wsgi_headers(environ)


def dispatch(flask: Flask, environ: Mapping[str, Any]) -> Response:
    """What Flask's `wsgi_app` does, without iterating the body."""
    context = flask.request_context(dict(environ))
    failure: BaseException | None = None
    try:
        context.push()
        return flask.full_dispatch_request()
    except Exception as error:
        failure = error
        return flask.handle_exception(error)
    finally:
        context.pop(failure)


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. :raises TooLarge: it passes the limit. :raises Gone: the client hung up."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise TooLarge
    message = await _next(receive)
    if not message.get("more_body", False) and len(message["body"]) <= limit:
        body: bytes = message["body"]
        return body
    return await _read_rest(message, receive, limit)


async def _read_rest(message: MutableMapping[str, Any], receive: Receive, limit: int) -> bytes:
    chunks, size = [], 0
    while True:
        chunks.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise TooLarge
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await _next(receive)


async def _next(receive: Receive) -> MutableMapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    message.setdefault("body", b"")
    return message


async def refuse_body(send: Send, receive: Receive, limit: int) -> None:
    """Say that the body is too large, and listen to some more of it while the client hears that."""
    body = orjson.dumps({"detail": f"The request body is larger than {limit} bytes"})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with contextlib.suppress(Gone, TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while (await _next(receive)).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _relay(
    send: Send, receive: Receive, body: AsyncBody, context: contextvars.Context
) -> None:
    """Send chunks as they come. A client that hangs up cancels them."""
    loop = asyncio.get_running_loop()
    sending = loop.create_task(_send_chunks(send, body), context=context)
    leaving = loop.create_task(_until_gone(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.wait({sending, leaving})
    # A body that failed must not look complete: the exception makes the server cut the connection.
    if not sending.cancelled() and (error := sending.exception()):
        if not isinstance(error, Unavailable):
            telemetry.log().error(telemetry.REQUEST_FAILED, exc_info=error)
        raise error


async def _send_chunks(send: Send, body: AsyncBody) -> None:
    async with contextlib.aclosing(body):
        async for chunk in body.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def environ_of(scope: Scope, body: bytes) -> dict[str, Any]:
    """The WSGI environment of an ASGI request (PEP 3333: text is bytes read as Latin-1)."""
    host, port = scope.get("server") or ("localhost", 80)
    root: str = scope.get("root_path", "")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _as_wsgi(root),
        "PATH_INFO": _as_wsgi(scope["path"].removeprefix(root)),
        "QUERY_STRING": scope["query_string"].decode("latin1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if scope.get("client"):
        environ["REMOTE_ADDR"] = scope["client"][0]
    for name, value in scope["headers"]:
        # Once in CGI's spelling, "x_user" would pass for the "x-user" that a proxy vouches for.
        if b"_" in name:
            continue
        key = _PLAIN.get(name) or "HTTP_" + name.decode("latin1").upper().replace("-", "_")
        text = value.decode("latin1")
        if key in environ:
            text = f"{environ[key]}{'; ' if name == b'cookie' else ','}{text}"
        environ[key] = text
    # A chunked body has been read whole by now.
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return environ


def _as_wsgi(path: str) -> str:
    return path.encode("utf8", "surrogateescape").decode("latin1")
