"""A way to a server that can turn into a black hole: connections stay open, and nothing passes any more."""

from __future__ import annotations

import asyncio
import threading
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass

from trellis.dev.process import any_port


@dataclass(eq=False)
class _Way:
    """One connection. Once dead it stays so, as one whose other end has vanished."""

    dead: bool


class Proxy:
    """Listens on `port` in a thread of its own until it is closed."""

    def __init__(self, behind: int) -> None:
        self.port = any_port()
        self._behind = behind
        self._swallows = False
        self._ways: set[_Way] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="proxy")
        self._thread.start()
        assert self._ready.wait(20)

    def swallow(self) -> None:
        """From now on every byte is lost, of connections that are open and of new ones."""
        self._swallows = True
        for way in list(self._ways):
            way.dead = True

    def pass_on(self) -> None:
        """New connections work again; those of the black hole never will."""
        self._swallows = False

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        way = _Way(self._swallows)
        self._ways.add(way)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._behind)
            await asyncio.gather(_pump(way, reader, back), _pump(way, there, writer))
        except OSError:
            writer.close()
        finally:
            self._ways.discard(way)


async def _pump(way: _Way, source: StreamReader, sink: StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            if not way.dead:
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()
