"""`langgraph_sdk.get_client()` without a URL: requests of the process's own code, answered in the process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from trellis.domain.access import Principal, caller
from trellis.graphs.plugs import Plugs

if TYPE_CHECKING:
    from trellis.settings import Settings
    from trellis.site import Site

#: Tells the SDK not to look for another server in this process, but to wait until it is connected.
DEFER = "__LANGGRAPH_DEFER_LOOPBACK_TRANSPORT"

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Any, Any], Awaitable[None]]


class Loopback:
    """The ASGI application that such clients talk to. The code is the operator's: it may do everything in its tenant."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        await _internal(self._site, scope, receive, send)


class OnDemand:
    """The same for a worker process, which has no API until a node asks for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.plugs = Plugs()
        self._lock = asyncio.Lock()
        self._site: Site | None = None
        self._stack = AsyncExitStack()

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        async with self._lock:
            if self._site is None:
                self._site = await asyncio.to_thread(self._build, asyncio.get_running_loop())
        await _internal(self._site, scope, receive, send)

    def _build(self, loop: asyncio.AbstractEventLoop) -> Site:
        from trellis import runtime
        from trellis.api.app import create_app
        from trellis.auth.access import Open
        from trellis.bridge import Bridge
        from trellis.site import Site
        from trellis.stream.reader import Reader

        rt = runtime.build(self._settings, access=Open())
        rt.loop = loop
        rt.plug_in(self.plugs)
        rt.reader = Reader(self._settings.redis_url, prefix=self._settings.redis_key_prefix)
        flask = create_app(rt)
        bridge = Bridge(
            flask,
            lifespan=nullcontext,
            threads=self._settings.web_threads,
            max_body_bytes=self._settings.max_body_bytes,
        )
        self._stack.callback(rt.close)
        self._stack.push_async_callback(rt.reader.close)
        return Site(rt, flask, bridge)

    async def close(self) -> None:
        """End what is being answered, and give connections back."""
        await self._stack.aclose()


async def _internal(site: Site, scope: _Scope, receive: Any, send: Any) -> None:
    who = Principal(tenant_id=caller.get().tenant_id, is_internal=True)
    await site.internal(scope, receive, send, who=who)


def announce() -> None:
    """Before any of the user's modules is imported: clients that they make are connected when there is a server."""
    os.environ[DEFER] = "true"


def connect(app: _App) -> None:
    """Connect the clients that were made, and those that will be."""
    from langgraph_sdk._async import client
    from langgraph_sdk.client import configure_loopback_transports

    configure_loopback_transports(app)
    # The SDK's own list: it has no other way to hear of clients that are made later.
    vars(client)["_registered_transports"] = _Connected(app)


class _Connected(list[Any]):
    """Where the SDK leaves each new client's transport for the server to connect."""

    def __init__(self, app: _App) -> None:
        super().__init__()
        self._app = app

    def append(self, transport: Any) -> None:
        # Connected, and not kept: a node may make a client at every run.
        transport.app = self._app
