"""A stand-in for the router of a platform: it cuts connections that are silent for too long, as Heroku's does."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread

from trellis.dev.process import any_port

NO_ANSWER = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Router:
    """Passes connections on to the first backend that takes them."""

    backends: Sequence[int]
    first_byte_seconds: float  #: Heroku: 30
    idle_seconds: float  #: Heroku: 55
    port: int = field(default_factory=any_port)
    cuts: list[str] = field(default_factory=list)  #: the codes that Heroku gives them

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator["Router"]:
        loop = asyncio.new_event_loop()
        thread = Thread(target=loop.run_forever)
        thread.start()
        start = asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        server = asyncio.run_coroutine_threadsafe(start, loop).result()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(server.close)
            asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _pass_on(self, client_in: StreamReader, client_out: StreamWriter) -> None:
        there = await self._connect()
        if there is None:
            await _write(client_out, NO_ANSWER)
            return client_out.close()
        backend_in, backend_out = there
        asking = asyncio.create_task(_pipe(client_in, backend_out))
        # Cancelled by the end of the test, if by anything.
        with suppress(asyncio.CancelledError):
            await self._answer(backend_in, client_out)
        asking.cancel()
        client_out.close()
        backend_out.close()

    async def _connect(self) -> tuple[StreamReader, StreamWriter] | None:
        for port in self.backends:
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _answer(self, backend: StreamReader, client: StreamWriter) -> None:
        seconds, code = self.first_byte_seconds, "H12"
        try:
            while data := await asyncio.wait_for(backend.read(65536), seconds):
                await _write(client, data)
                seconds, code = self.idle_seconds, "H15"
        except TimeoutError:
            self.cuts.append(code)
            if code == "H12":
                await _write(client, NO_ANSWER)
        except OSError:
            return


async def _pipe(source: StreamReader, sink: StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            await _write(sink, data)
    sink.close()


async def _write(sink: StreamWriter, data: bytes) -> None:
    with suppress(OSError):
        sink.write(data)
        await sink.drain()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
