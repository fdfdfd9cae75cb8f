"""What surrounds the API in a web process: authentication, the user's own app, and the prefix of all paths."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import orjson
from flask import Flask
from werkzeug.exceptions import HTTPException, NotFound

from trellis import telemetry
from trellis.api import cors
from trellis.api.access import OPEN, WHO
from trellis.auth.request import Request
from trellis.bridge import Gone, Receive, Scope, Send, TooLarge, environ_of, read_body, refuse_body
from trellis.domain.access import caller
from trellis.errors import ConfigError, Denied, GraphLoadError, TrellisError
from trellis.graphs import loader
from trellis.graphs.manifest import GraphSpec, Manifest
from trellis.runtime import Runtime
from trellis.settings import Settings

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def load_app(manifest: Manifest) -> Any:
    """
    Import the user's own app. None: there is none.

    :raises ConfigError: it could not be imported, or it is no app.
    """
    if manifest.http.app is None:
        return None
    at = f'{manifest.path}: "http.app"'
    try:
        found = loader.import_target(manifest, GraphSpec(graph_id="app", target=manifest.http.app))
    except GraphLoadError as error:
        raise ConfigError(f"{at}: {error.reason}") from error
    if not callable(found.value):
        raise ConfigError(f"{at}: {type(found.value).__name__} is neither an ASGI nor a WSGI app")
    return found.value


class Site:
    """The ASGI application of a web process: ours, around or beside the user's."""

    def __init__(self, rt: Runtime, flask: Flask, ours: Asgi, theirs: Any = None) -> None:
        self._rt = rt
        self._flask = flask
        self._ours = ours
        self._http = rt.manifest.http
        self._theirs = None if theirs is None else _as_asgi(theirs, rt.settings)
        self._wraps = hasattr(theirs, "user_middleware")
        self._state: dict[str, Any] = {}
        if self._wraps:
            self._step_in(theirs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._ours(scope, receive, send)
            return
        if scope["type"] == "websocket":
            scope = cors.for_socket(self._http.cors, scope)
        if (inside := self._below_prefix(scope)) is None:
            await _answer(scope, send, 404, {"detail": "Not Found"})
            return
        await self._enter(inside, receive, send)

    async def internal(self, scope: Scope, receive: Receive, send: Send, *, who: Any) -> None:
        """A request of this process's own code, which is not asked who it is."""
        scope = {**scope, "root_path": "", WHO: who}
        await (self._ours if self._is_ours(scope) else self._to_theirs)(scope, receive, send)

    def _below_prefix(self, scope: Scope) -> Scope | None:
        """The request as seen from below the prefix. None: it is not meant for us."""
        prefix = self._http.mount_prefix
        if not prefix:
            return scope
        root = scope.get("root_path", "")
        path: str = scope["path"].removeprefix(root)
        if path != prefix and not path.startswith(f"{prefix}/"):
            return None
        # As ASGI has it, the path begins with the root path.
        return {**scope, "root_path": f"{root}{prefix}", "path": f"{root}{path}"}

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._theirs is None:
            await self._gated(self._ours, scope, receive, send)
        elif not self._wraps:
            await self._inner(self._theirs, scope, receive, send)
        elif self._http.auth_first and (self._is_ours(scope) or self._asks_for_theirs):
            await self._gated(self._to_theirs, scope, receive, send)
        else:
            await self._to_theirs(scope, receive, send)

    async def _to_theirs(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._theirs is not None
        scope.setdefault("state", {}).update(self._state)
        await self._theirs(scope, receive, send)

    async def _inner(self, theirs: Asgi, scope: Scope, receive: Receive, send: Send) -> None:
        """Below the middleware: our routes win over theirs of the same path."""
        if self._is_ours(scope):
            await self._gated(self._ours, scope, receive, send)
        elif self._asks_for_theirs:
            await self._gated(theirs, scope, receive, send)
        else:
            await theirs(scope, receive, send)

    @property
    def _asks_for_theirs(self) -> bool:
        return self._http.enable_custom_route_auth

    def _is_ours(self, scope: Scope) -> bool:
        if self._theirs is None:
            return True
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            self._flask.url_map.bind("").match(path or "/", _method(scope))
        except NotFound:
            return False
        except HTTPException:
            # A path of ours, with another method or a slash too much.
            return True
        return True

    def _step_in(self, theirs: Any) -> None:
        """Make ourselves the innermost middleware, so that the user's wraps our routes too."""
        from starlette.middleware import Middleware

        site = self

        class Inner:
            def __init__(self, app: Asgi) -> None:
                self._app = app

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                if scope["type"] == "lifespan":
                    await self._app(scope, receive, send)
                else:
                    await site._inner(self._app, scope, receive, send)

        theirs.user_middleware.append(Middleware(Inner))

    # Who it is

    async def _gated(self, app: Asgi, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask who the request is from, once. What is refused is told by our routes, or here for theirs."""
        if self._rt.access.is_open or WHO in scope or self._needs_no_one(scope):
            await app(scope, receive, send)
            return
        try:
            who, receive = await self._identify(scope, receive)
        except TooLarge:
            await refuse_body(send, receive, self._rt.settings.max_body_bytes)
            return
        except Gone:
            return
        if isinstance(who, TrellisError):
            await self._turn_away(who, scope, receive, send)
            return
        caller.set(who)
        known = {"user": who.user, "auth": who.user.permissions if who.user else []}
        await app({**scope, WHO: who, **known}, receive, send)

    async def _turn_away(
        self, error: TrellisError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if self._is_ours(scope):
            # Below the middleware, if there is one: the answer has our headers.
            await self._ours({**scope, WHO: error}, receive, send)
        else:
            headers = error.headers if isinstance(error, Denied) else {}
            await _answer(scope, send, error.status, {"detail": error.detail}, headers)

    def _needs_no_one(self, scope: Scope) -> bool:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        return scope.get("method") == "OPTIONS" or (path or "/") in OPEN

    async def _identify(self, scope: Scope, receive: Receive) -> tuple[Any, Receive]:
        """Who it is, or why nobody is told; and the messages of the request, those read for that included."""
        body: bytes | None = None

        async def content() -> bytes:
            nonlocal body
            if scope["type"] == "websocket":
                return b""
            if body is None:
                body = await read_body(scope, receive, self._rt.settings.max_body_bytes)
            return body

        def path_params() -> dict[str, str]:
            path: str = scope["path"].removeprefix(scope.get("root_path", ""))
            with contextlib.suppress(HTTPException):
                return dict(self._flask.url_map.bind("").match(path, _method(scope))[1])
            return {}

        request = Request(scope=scope, body=content, path_params=path_params)
        who: Any
        try:
            who = await self._rt.access.authenticate(request)
        except TrellisError as error:
            who = error
        return who, receive if body is None else _again(body, receive)

    # The life of the user's app

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Start the user's app, and stop it at the end. :raises ConfigError: it does not start."""
        if self._theirs is None:
            yield
            return
        said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        told: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self._state}
        life: asyncio.Future[None] = asyncio.ensure_future(self._theirs(scope, told.get, said.put))
        told.put_nowait({"type": "lifespan.startup"})
        await _until_said(life, said, "startup")
        yield
        if not life.done():
            told.put_nowait({"type": "lifespan.shutdown"})
            await _until_said(life, said, "shutdown")
            await asyncio.wait({life})


def _method(scope: Scope) -> str:
    """The method of a request; a socket's frames are sent to the route of its path."""
    return str(scope.get("method", "POST"))


async def _until_said(
    life: asyncio.Future[None], said: asyncio.Queue[MutableMapping[str, Any]], what: str
) -> None:
    answer = asyncio.ensure_future(said.get())
    either: set[asyncio.Future[Any]] = {life, answer}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not answer.done():
        answer.cancel()
        # An app that raises at the scope itself has no lifespan: so says the specification.
        if life.exception() is not None:
            telemetry.log().debug(telemetry.APP_LIFESPAN, error=str(life.exception()))
        return
    message = answer.result()
    if message["type"] == f"lifespan.{what}.failed":
        raise ConfigError(f'"http.app" did not finish its {what}: {message.get("message", "")}')


def _again(body: bytes, receive: Receive) -> Receive:
    """The same messages, for whoever comes after the one who has read the body."""
    read = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(
    scope: Scope, send: Send, status: int, said: Any, headers: dict[str, str] | None = None
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    body = orjson.dumps(said)
    fields = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    fields += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


# WSGI


def _as_asgi(app: Any, settings: Settings) -> Asgi:
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__):
        found: Asgi = app
        return found
    return _Wsgi(app, settings.web_threads, max_body_bytes=settings.max_body_bytes)


class _Wsgi:
    """A WSGI app on the loop: each request has a thread until its answer is sent."""

    def __init__(self, app: Any, threads: int, *, max_body_bytes: int) -> None:
        self._app = app
        self._limit = max_body_bytes
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="wsgi")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("a WSGI app has no lifespan")
        if scope["type"] == "websocket":
            await _answer(scope, send, 404, None)
            return
        try:
            # All of it: WSGI reads it in a thread, where nothing more can be received.
            body = await read_body(scope, receive, self._limit)
        except TooLarge:
            await refuse_body(send, receive, self._limit)
            return
        except Gone:
            return
        environ = environ_of(scope, body)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, self._respond, environ, send, loop)

    def _respond(
        self, environ: dict[str, Any], send: Send, loop: asyncio.AbstractEventLoop
    ) -> None:
        start: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
            start["status"] = int(status.split()[0])
            start["headers"] = [
                (k.lower().encode("latin1"), v.encode("latin1")) for k, v in headers
            ]

        def deliver(message: dict[str, Any]) -> None:
            asyncio.run_coroutine_threadsafe(_sent(send, message), loop).result()

        chunks = self._app(environ, start_response)
        begun = False
        try:
            for chunk in chunks:
                if not begun:
                    begun = True
                    deliver({"type": "http.response.start", **start})
                deliver({"type": "http.response.body", "body": chunk, "more_body": True})
            if not begun:
                deliver({"type": "http.response.start", **start})
            deliver({"type": "http.response.body", "body": b""})
        finally:
            if hasattr(chunks, "close"):
                chunks.close()


async def _sent(send: Send, message: dict[str, Any]) -> None:
    await send(message)
