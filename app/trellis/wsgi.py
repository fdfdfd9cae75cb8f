"""`trellis.wsgi:app` for any WSGI server: the same application, at the price of one thread per open stream."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from trellis import runtime, telemetry
from trellis.api.app import create_app
from trellis.api.bodies import AsyncBody
from trellis.auth.build import check_exposure
from trellis.bridge import dispatch
from trellis.db.encryption import check_key
from trellis.errors import ConfigError
from trellis.graphs import plugs
from trellis.services import assistants
from trellis.settings import load
from trellis.stream.reader import Reader

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


class Application:
    """Flask, with an event loop in a thread of its own for what streams."""

    def __init__(self) -> None:
        settings = load()
        telemetry.configure(settings)
        rt = runtime.build(settings)
        check_exposure(settings, rt.access)
        if rt.manifest.http.app or rt.manifest.http.mount_prefix:
            raise ConfigError('"http.app" and "http.mount_prefix" need ASGI: use `trellis web`')
        rt.before_user_code = rt.offer_cache
        if not rt.access.is_open or rt.manifest.has_plugs:
            rt.before_user_code()
        _ = rt.priority
        check_key(rt.engine)
        self._rt = rt
        self._loop = rt.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()
        self._reader = rt.reader = self._wait(
            _new_reader(settings.redis_url, settings.redis_key_prefix)
        )
        self._plugs = self._wait(plugs.open_(rt.manifest))
        rt.plug_in(self._plugs)
        assistants.ensure_defaults(rt)
        self._flask = create_app(rt)
        atexit.register(self.close)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        response = dispatch(self._flask, environ)
        if not isinstance(response.response, AsyncBody):
            return response(environ, start_response)
        # Connection is the server's business under WSGI (PEP 3333 forbids it).
        headers = [(k, v) for k, v in response.headers.items() if k.lower() != "connection"]
        start_response(response.status, headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return self._iterate(response.response)

    def close(self) -> None:
        """End the streams, and give connections back."""
        atexit.unregister(self.close)
        self._wait(self._reader.close())
        self._wait(self._plugs.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._rt.close()

    def _iterate(self, body: AsyncBody) -> Iterator[bytes]:
        async def following() -> bytes | None:
            return await anext(body.chunks, None)

        try:
            while (chunk := self._wait(following())) is not None:
                yield chunk
        finally:
            self._wait(body.aclose())

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _new_reader(url: str, prefix: str) -> Reader:
    return Reader(url, prefix=prefix)


def __getattr__(name: str) -> Application:
    """WSGI servers look for `app`; it is made when asked for, not at import."""
    if name != "app":
        raise AttributeError(name)
    application = Application()
    globals()["app"] = application
    return application
