"""The client on real sockets: what it counts as an answer, a token, an error."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from benchmarks.client import TOKENS, Client, EventCounter, WrongAnswer

TOKEN = b'event: messages\r\ndata: [{"content":"event: messages event: error"},{}]\r\n\r\n'


@contextlib.asynccontextmanager
async def answering(status: int, parts: Sequence[bytes]) -> AsyncIterator[str]:
    """Serve the same answer to every request, in the parts given."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {sum(map(len, parts))}\r\n\r\n"
        writer.write(head.encode())
        for part in parts:
            writer.write(part)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def ask(status: int, parts: Sequence[bytes], *, method: str, **arguments: str) -> object:
    async def run() -> object:
        async with answering(status, parts) as url, Client(url) as client:
            return await getattr(client, method)(**arguments)

    return asyncio.run(run())


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_event_counter__however_the_bytes_are_cut(size):
    text = b": heartbeat\r\n\r\n" + TOKEN * 5 + b"event: end\r\ndata: null\r\n\r\n"
    counter = EventCounter()

    for start in range(0, len(text), size):
        counter.feed(text[start : start + size])

    assert counter.events == 5
    assert not counter.failed


def test_event_counter__an_error_event():
    counter = EventCounter()

    counter.feed(TOKEN + b'event: error\r\ndata: {"error":"ValueError"}\r\n\r\n')

    assert counter.failed


def test_wait__the_right_answer():
    assert ask(200, [b'\n\n{"messages":["echo: hello"]}'], method="wait", graph="echo") is None


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b'{"messages":["something else"]}'),
        (200, b'{"__error__":{"error":"ValueError","message":"echo: hello"}}'),
        (503, b'{"detail":"echo: hello"}'),
    ],
)
def test_wait__a_wrong_answer(status, answer):
    with pytest.raises(WrongAnswer):
        ask(status, [answer], method="wait", graph="echo")


def test_stream_tokens():
    streamed = ask(200, [TOKEN * TOKENS], method="stream_tokens", graph="tokens", thread="t")

    assert streamed.events == TOKENS
    assert 0 < streamed.first <= streamed.total


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, TOKEN * (TOKENS - 1)),
        (200, TOKEN * TOKENS + b"event: error\r\ndata: {}\r\n\r\n"),
        (200, b""),
        (422, TOKEN * TOKENS),
    ],
)
def test_stream_tokens__not_what_the_graph_gives(status, answer):
    with pytest.raises(WrongAnswer):
        ask(status, [answer], method="stream_tokens", graph="tokens", thread="t")
