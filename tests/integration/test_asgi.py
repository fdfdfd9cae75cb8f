"""The bridge behind a real uvicorn, with views of the tests' own, spoken to in raw HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

from trellis.api.bodies import AsyncBody
from trellis.bridge import Bridge, environ_of
from trellis.errors import Unavailable

pytestmark = pytest.mark.anyio

LIMIT = 1_000_000
request_id = contextvars.ContextVar("request_id", default="none")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@dataclass
class Seen:
    """What the views and bodies of the test noticed."""

    environ: dict[str, str] = field(default_factory=dict)
    bodies: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    torn_down: list[BaseException | None] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)


def new_flask(seen: Seen) -> Flask:
    app = Flask("views")

    @app.post("/echo")
    def echo() -> ResponseReturnValue:
        return Response(request.get_data(), content_type="application/octet-stream")

    @app.route("/environ/<path:path>", methods=["GET", "POST"])
    def environ(path: str) -> ResponseReturnValue:
        text = {k: v for k, v in request.environ.items() if isinstance(v, str)}
        return {"path": path, "args": request.args.to_dict(), "environ": text}

    @app.get("/empty")
    def empty() -> ResponseReturnValue:
        return Response(status=204)

    @app.get("/bug")
    def bug() -> ResponseReturnValue:
        raise RuntimeError("secret detail")

    @app.get("/held")
    def held() -> ResponseReturnValue:
        seen.release.wait(10)
        return "held"

    @app.get("/context")
    def context() -> ResponseReturnValue:
        before = request_id.get()
        request_id.set("mine")

        async def chunks() -> AsyncIterator[bytes]:
            yield f"{before} {request_id.get()}".encode()

        return Response(AsyncBody(chunks()))

    @app.get("/ticks")
    def ticks() -> ResponseReturnValue:
        async def chunks() -> AsyncIterator[bytes]:
            seen.bodies += 1
            try:
                for n in range(1_000_000):
                    yield b"tick %d\r\n" % n
                    await asyncio.sleep(0.01)
            finally:
                seen.closed.set()

        return Response(AsyncBody(chunks()), content_type="text/event-stream")

    @app.get("/flood")
    def flood() -> ResponseReturnValue:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65_536
                    await asyncio.sleep(0)
            finally:
                seen.closed.set()

        return Response(AsyncBody(chunks()))

    @app.get("/late")
    def late() -> ResponseReturnValue:
        async def chunks() -> AsyncIterator[bytes]:
            await asyncio.to_thread(seen.release.wait, 10)
            yield b"{}"

        return Response(AsyncBody(chunks()), content_type="application/json")

    @app.get("/broken/<kind>")
    def broken(kind: str) -> ResponseReturnValue:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise Unavailable("stopping") if kind == "expected" else RuntimeError("secret detail")

        return Response(AsyncBody(chunks()))

    @app.teardown_request
    def torn_down(error: BaseException | None) -> None:
        seen.torn_down.append(error)

    return app


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool


Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def server(seen: Seen, anyio_backend: object) -> AsyncIterator[uvicorn.Server]:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield

    app = Bridge(new_flask(seen), lifespan=lifespan, threads=4, max_body_bytes=LIMIT)
    config = uvicorn.Config(
        app, port=0, log_level="critical", lifespan="on", ws="none", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.005)
    yield server
    server.should_exit = True
    seen.release.set()
    await serving


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    found: int = server.servers[0].sockets[0].getsockname()[1]
    return found


def raw(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: test", *headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin1") + body


async def read_answer(reader: asyncio.StreamReader, *, method: str = "GET") -> Answer:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin1")
    status, *lines = head.split("\r\n")[:-2]
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    answer = Answer(int(status.split()[1]), headers, b"", True)
    if method == "HEAD" or answer.status in (100, 204):
        return answer
    if "content-length" in headers:
        answer.body = await reader.readexactly(int(headers["content-length"]))
        return answer
    try:
        while size := int((await reader.readline() or b"-1").strip(), 16):
            if size < 0:
                raise EOFError
            answer.body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    except (EOFError, asyncio.IncompleteReadError):
        answer.complete = False
    return answer


@pytest.fixture
def ask(port: int) -> Ask:
    async def ask(method: str, path: str, *headers: str, body: bytes = b"") -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(raw(method, path, *headers, body=body))
            return await read_answer(reader, method=method)

    return ask


async def test_http(ask: Ask) -> None:
    answer = await ask("POST", "/echo", body=b'{"a":1}')

    assert (answer.status, answer.body) == (200, b'{"a":1}')
    assert answer.headers["content-length"] == "7"


async def test_http__keeps_the_connection(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        for body in (b"one", b"two"):
            writer.write(raw("POST", "/echo", body=body))
            assert (await read_answer(reader)).body == body


async def test_http__a_chunked_body(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(raw("POST", "/echo", "transfer-encoding: chunked"))
        for chunk in (b"abc", b"defgh"):
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await asyncio.sleep(0.02)
        writer.write(b"0\r\n\r\n")

        assert (await read_answer(reader)).body == b"abcdefgh"


async def test_http__a_chunked_body_has_a_length_once_it_is_read(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(raw("POST", "/environ/x", "transfer-encoding: chunked"))
        writer.write(b"3\r\nabc\r\n0\r\n\r\n")
        environ = json.loads((await read_answer(reader)).body)["environ"]

    assert environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_TRANSFER_ENCODING" not in environ


async def test_http__a_body_of_the_largest_size(ask: Ask) -> None:
    body = b"x" * LIMIT

    assert (await ask("POST", "/echo", body=body)).body == body


async def test_http__a_body_that_is_too_large(ask: Ask) -> None:
    answer = await ask("POST", "/echo", body=b"x" * (LIMIT + 1))

    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert json.loads(answer.body) == {"detail": f"The request body is larger than {LIMIT} bytes"}


async def test_http__a_body_that_says_too_late_how_large_it_is(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(raw("POST", "/echo", "transfer-encoding: chunked"))
        for _ in range(LIMIT // 10_000 + 50):
            writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        writer.write(b"0\r\n\r\n")

        assert (await read_answer(reader)).status == 413


async def test_http__a_client_that_sends_all_before_it_reads(port: int) -> None:
    """It must see the answer, not a connection that was reset under it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(raw("POST", "/echo", body=b"x" * (20 * LIMIT)))
        await asyncio.wait_for(writer.drain(), 10)

        answer = await read_answer(reader)

    assert answer.status == 413
    assert b"larger" in answer.body


async def test_http__a_client_that_asks_before_it_sends(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(raw("POST", "/echo", "expect: 100-continue", "content-length: 2"))
        assert (await read_answer(reader)).status == 100
        writer.write(b"ok")

        assert (await read_answer(reader)).body == b"ok"


async def test_http__a_client_that_asks_before_it_sends_too_much(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        length = f"content-length: {LIMIT + 1}"
        writer.write(raw("POST", "/echo", "expect: 100-continue", length))

        assert (await read_answer(reader)).status == 413


@pytest.mark.parametrize("path", ["/environ/x", "/ticks"])
async def test_http__head(ask: Ask, seen: Seen, path: str) -> None:
    got, asked = await ask("HEAD", path), await ask("GET", "/environ/x")

    assert (got.status, got.body) == (200, b"")
    assert seen.bodies == 0
    if path != "/ticks":
        assert got.headers["content-type"] == asked.headers["content-type"]
        assert int(got.headers["content-length"]) > 0


async def test_http__no_content(ask: Ask) -> None:
    answer = await ask("GET", "/empty")

    assert answer.status == 204
    assert "content-length" not in answer.headers


async def test_http__the_environment(ask: Ask) -> None:
    answer = await ask("GET", "/environ/a%20b/%C3%A9?q=%E2%82%AC&x=1", "x-one: 1", "X-One: 2")
    seen = json.loads(answer.body)

    assert seen["path"] == "a b/é"
    assert seen["args"] == {"q": "€", "x": "1"}
    assert seen["environ"]["HTTP_X_ONE"] == "1,2"
    assert seen["environ"]["REMOTE_ADDR"] == "127.0.0.1"
    assert seen["environ"]["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert "HTTP_CONTENT_LENGTH" not in seen["environ"]


async def test_http__bytes_that_are_no_text(ask: Ask) -> None:
    answer = await ask("GET", "/environ/%ff?q=%ff", "x-odd: \xe9")

    assert answer.status == 200
    assert json.loads(answer.body)["environ"]["HTTP_X_ODD"] == "\xe9"


async def test_http__a_url_that_is_no_ascii(ask: Ask) -> None:
    assert (await ask("GET", "/environ/x?q=\xff")).status in (200, 400)


async def test_http__cookies_of_several_lines(ask: Ask) -> None:
    answer = await ask("GET", "/environ/x", "cookie: a=1", "cookie: b=2")

    assert json.loads(answer.body)["environ"]["HTTP_COOKIE"] == "a=1; b=2"


async def test_http__a_header_that_would_pass_for_another(ask: Ask) -> None:
    answer = await ask("GET", "/environ/x", "x_user: forged", "x-user: vouched")

    assert json.loads(answer.body)["environ"]["HTTP_X_USER"] == "vouched"


async def test_http__a_bug_tells_nothing(ask: Ask, seen: Seen) -> None:
    answer = await ask("GET", "/bug")

    assert answer.status == 500
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert isinstance(seen.torn_down[0], RuntimeError)


async def test_http__a_slow_view_does_not_hold_up_others(ask: Ask, seen: Seen) -> None:
    held = asyncio.create_task(ask("GET", "/held"))
    await asyncio.sleep(0.05)

    assert (await ask("POST", "/echo", body=b"x")).body == b"x"

    seen.release.set()
    assert (await held).body == b"held"


async def test_http__context_stays_with_the_request(ask: Ask) -> None:
    bodies = {(await ask("GET", "/context")).body for _ in range(10)}

    assert bodies == {b"none mine"}


async def test_stream__the_head_does_not_wait_for_the_first_chunk(port: int, seen: Seen) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(raw("GET", "/late"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        seen.release.set()
        body = await reader.readuntil(b"0\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200")
    assert b"{}" in body


async def test_stream__the_connection_goes_on_after_it(port: int, seen: Seen) -> None:
    seen.release.set()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        for _ in range(2):
            writer.write(raw("GET", "/late"))
            assert (await read_answer(reader)).body == b"{}"


@pytest.mark.parametrize("path", ["/ticks", "/flood"])
async def test_stream__a_client_that_leaves_closes_the_body(
    port: int, seen: Seen, path: str
) -> None:
    """Also one that does not read: its body waits in `send`, not for the next event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw("GET", path))
    await reader.readuntil(b"\r\n\r\n")
    assert not seen.closed.is_set()

    writer.transport.abort()

    await asyncio.wait_for(seen.closed.wait(), 1)


@pytest.mark.parametrize(("kind", "logged"), [("expected", False), ("bug", True)])
async def test_stream__a_body_that_fails_does_not_look_complete(
    ask: Ask, kind: str, logged: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await ask("GET", f"/broken/{kind}")

    assert answer.body == b"half"
    assert not answer.complete
    assert ("secret detail" in capsys.readouterr().out) is logged


async def test_stream__a_thread_is_not_held(ask: Ask, port: int) -> None:
    """Four threads, forty streams, and still an answer."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(40):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(raw("GET", "/ticks"))
            await reader.readuntil(b"tick 0")

        assert (await asyncio.wait_for(ask("POST", "/echo", body=b"x"), 2)).body == b"x"


async def test_stream__chunks_in_order(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(raw("GET", "/ticks"))
        text = await reader.readuntil(b"tick 30\r\n")

    assert re.findall(rb"tick (\d+)", text) == [b"%d" % n for n in range(31)]


def test_environ_of__below_a_root_path() -> None:
    scope = {
        "method": "GET",
        "root_path": "/api",
        "path": "/api/threads",
        "query_string": b"",
        "http_version": "1.1",
        "headers": [],
    }

    environ = environ_of(scope, b"")

    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/api", "/threads")


async def test_websocket__of_another_path_is_refused() -> None:
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    bridge = Bridge(Flask("x"), lifespan=contextlib.nullcontext, threads=1, max_body_bytes=1)  # type: ignore[arg-type]  # never entered
    await bridge({"type": "websocket", "path": "/threads"}, receive, send)  # type: ignore[arg-type]  # plain dicts

    assert [(m["type"], m["code"]) for m in sent] == [("websocket.close", 1008)]
