"""The web process: Flask behind the bridge, on uvicorn. `trellis.asgi:app` is the factory for another ASGI server."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import click
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from trellis import loopback, runtime, telemetry
from trellis.api import openapi
from trellis.api.app import create_app
from trellis.auth.build import check_exposure
from trellis.bridge import Bridge
from trellis.db.encryption import check_key
from trellis.errors import ConfigError
from trellis.graphs import plugs
from trellis.runtime import Runtime
from trellis.services import assistants
from trellis.settings import Settings, load
from trellis.site import Site, load_app
from trellis.stream.reader import Reader

#: How long requests may go on after SIGTERM, in seconds. Streams end at once, so that clients reconnect elsewhere.
_GRACE = 4


def app() -> Site:
    """Make the application from the environment."""
    loopback.announce()
    settings = load()
    telemetry.configure(settings)
    rt = runtime.build(settings)
    check_exposure(settings, rt.access)
    return create(rt)


def create(rt: Runtime) -> Site:
    """Make the application of a runtime."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        rt.loop = asyncio.get_running_loop()
        rt.reader = Reader(rt.settings.redis_url, prefix=rt.settings.redis_key_prefix)
        try:
            greeting = await _greet(rt)
            async with _plugged(rt), site.lifespan():
                yield
        except ConfigError as error:
            # uvicorn would say it at a level that is switched off.
            telemetry.log().error(telemetry.WEB_FAILED, error=str(error))
            raise
        greeting.cancel()
        await rt.reader.close()
        rt.close()

    flask = create_app(rt)
    theirs = load_app(rt.manifest)
    flask.extensions[openapi.THEIRS] = getattr(theirs, "openapi", None)
    bridge = Bridge(
        flask,
        lifespan=lifespan,
        threads=rt.settings.web_threads,
        max_body_bytes=rt.settings.max_body_bytes,
    )
    site = Site(rt, flask, bridge, theirs)

    def meet_user_code() -> None:
        loopback.connect(loopback.Loopback(site))
        rt.offer_cache()

    rt.before_user_code = meet_user_code
    if theirs is not None or not rt.access.is_open:
        rt.before_user_code()
    _ = rt.priority
    return site


@asynccontextmanager
async def _plugged(rt: Runtime) -> AsyncIterator[None]:
    """Keep the operator's own store and checkpointer open. :raises ConfigError: one does not open."""
    if rt.manifest.has_plugs:
        rt.before_user_code()
    found = await plugs.open_(rt.manifest)
    rt.plug_in(found)
    try:
        yield
    finally:
        await found.close()


async def _greet(rt: Runtime) -> asyncio.Task[None]:
    """
    Meet the database. A task waits for one that is not there yet.

    :raises ConfigError: what is there was encrypted with a key that is missing here.
    """
    with contextlib.suppress(SQLAlchemyError):
        await asyncio.to_thread(check_key, rt.engine)
    return asyncio.create_task(_ensure_assistants(rt))


async def _ensure_assistants(rt: Runtime) -> None:
    """Give every graph its default assistant, as soon as the database is there."""
    pause = 0.5
    while True:
        try:
            await asyncio.to_thread(check_key, rt.engine)
            await asyncio.to_thread(assistants.ensure_defaults, rt)
        except ConfigError as error:
            # It has begun to serve without a database, and must not go on.
            telemetry.log().error(telemetry.WEB_FAILED, error=str(error))
            signal.raise_signal(signal.SIGTERM)
            return
        except Exception as error:
            telemetry.log().warning(telemetry.ASSISTANTS_WAITING, error=str(error).split("\n")[0])
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10)
        else:
            return


class _Mail:
    """What a client has sent, for its one reader. A queue of asyncio's takes five times the memory, empty."""

    __slots__ = ("_messages", "_waiter")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._waiter: asyncio.Future[None] | None = None

    def empty(self) -> bool:
        return not self._messages

    def put_nowait(self, message: Any) -> None:
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Any:
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._messages.pop(0)


class _Gate:
    """Whether a client takes more, most often open; likewise."""

    __slots__ = ("_opens",)

    def __init__(self) -> None:
        self._opens: asyncio.Event | None = None

    def clear(self) -> None:
        self._opens = self._opens or asyncio.Event()

    def set(self) -> None:
        if self._opens is not None:
            self._opens.set()
            self._opens = None

    async def wait(self) -> None:
        if self._opens is not None:
            await self._opens.wait()


class Socket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, less what an open one has no use for, which is most of what it holds."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.queue = _Mail()  # type: ignore[assignment]  # as much of a queue as is used
        self.writable = _Gate()  # type: ignore[assignment]  # likewise

    def start_keepalive(self) -> None:
        # It is open now, and its handshake is in the scope as far as anybody needs it.
        del self.request, self.response
        super().start_keepalive()


class _Server(uvicorn.Server):
    """Ends open streams before it waits for connections, and says when it listens."""

    def __init__(
        self, config: uvicorn.Config, rt: Runtime, *, ready: Callable[[int], None]
    ) -> None:
        super().__init__(config)
        self._rt = rt
        self._ready = ready

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]  # uvicorn: socket
        await super().startup(sockets)  # type: ignore[arg-type]  # likewise
        if self.started:
            self._ready(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]  # likewise
        if self._rt.reader is not None:
            with contextlib.suppress(Exception):
                await self._rt.reader.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]  # likewise
        # uvicorn would raise the signal again and end with 143: asked to end, and ended well, is 0.
        self._captured_signals.clear()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    # A crash of a C extension says where it was.
    faulthandler.enable()
    loopback.announce()
    telemetry.configure(settings)
    rt = runtime.build(settings)
    check_exposure(settings, rt.access)
    config = uvicorn.Config(
        create(rt),
        host=settings.host,
        port=settings.port,
        lifespan="on",
        access_log=False,
        log_level="critical",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE,
        server_header=False,
        proxy_headers=False,
        ws=Socket,
        # A compressor costs each connection more memory than all the rest of it.
        ws_per_message_deflate=False,
    )
    # What has been imported stays: collections need not look at it again and again.
    gc.collect()
    gc.freeze()
    # Thousands of streams are many objects, and requests beside them wait for every look at all of them.
    gc.set_threshold(20_000, 50, 100)
    # Asked again while it starts or ends, it still ends well: uvicorn gives the signals back before the process is gone.
    signal.signal(signal.SIGTERM, _leave)
    _Server(config, rt, ready=lambda port: _announce(settings.host, port)).run()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _leave(*_: object) -> None:
    raise SystemExit(0)


def _announce(host: str, port: int) -> None:
    click.echo(f"Trellis listens on http://{host}:{port}")
