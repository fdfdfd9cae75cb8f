"""An HTTP client for any LangGraph-compatible server, light enough not to be what is measured."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

#: Below the 5 s after which uvicorn closes an idle connection: a request must not meet that moment.
KEEPALIVE_SECONDS = 3
#: The slowest peer needs about a minute for 128 streams.
REQUEST_SECONDS = 120

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
INPUTS: Mapping[str, dict[str, Any]] = {
    "echo": HELLO,
    "ten": {"done": []},
    "tokens": HELLO,
    "tokslow": HELLO,
    "burst": {},
    "sleepy": {"seconds": 1.0},
    "cpu": {"done": []},
}
#: What a right answer holds: a fast wrong answer is an error.
ANSWERS: Mapping[str, bytes] = {
    "echo": b"echo: hello",
    "ten": b"step 10",
    "sleepy": b"rested",
    "cpu": b"computed",
}
TOKENS = 200
#: What the graph `burst` sends, from one node.
EVENTS = 20_000


class WrongAnswer(Exception):
    """The server answered, but not with what the graph gives."""


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """One finished stream: the events that were counted, and seconds to the first of them and to the end."""

    events: int
    first: float
    total: float


class EventCounter:
    """Counts the events of a mode as the bytes of a stream arrive, without decoding them."""

    def __init__(self, mode: str = "messages") -> None:
        self.events = 0
        self._sign = f"\nevent: {mode}".encode()
        self.failed = False
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Count in the complete lines, and keep the line that is still coming."""
        text = self._rest + chunk
        cut = text.rfind(b"\n") + 1
        self._rest = text[cut:]
        # JSON escapes line ends, so the name of an event is the only thing that follows one.
        lines = b"\n" + text[:cut]
        self.events += lines.count(self._sign)
        self.failed = self.failed or b"\nevent: error" in lines


class Client:
    """One side's connections."""

    def __init__(self, base_url: str, *, headers: Mapping[str, str] | None = None) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"content-type": "application/json", **(headers or {})}
        self._bodies = {graph: body(graph, input=given) for graph, given in INPUTS.items()}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            headers=self._headers,
            read_bufsize=2**18,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def get(self, path: str) -> bytes:
        """Read a resource. :raises WrongAnswer: any status but 2xx."""
        async with self._session.get(self._base + path) as response:
            return await _content(path, response)

    async def post(self, path: str, data: bytes) -> bytes:
        """Send a JSON body. :raises WrongAnswer: any status but 2xx."""
        async with self._session.post(self._base + path, data=data) as response:
            return await _content(path, response)

    async def thread(self) -> str:
        """Create a thread and return its id."""
        return str(json.loads(await self.post("/threads", b"{}"))["thread_id"])

    async def wait(self, graph: str, *, thread: str | None = None) -> None:
        """Run a graph, on the thread or stateless, and check its answer."""
        path = f"/threads/{thread}/runs/wait" if thread else "/runs/wait"
        answer = await self.post(path, self._bodies[graph])
        if ANSWERS[graph] not in answer:
            raise WrongAnswer(f"{path}: {answer[:200]!r}")

    async def wait_on_new_thread(self, graph: str) -> None:
        """Create a thread and run a graph on it: two requests."""
        await self.wait(graph, thread=await self.thread())

    async def start(self, graph: str, given: dict[str, Any], *, thread: str) -> str:
        """Create a background run and return its id."""
        answer = await self.post(f"/threads/{thread}/runs", body(graph, input=given))
        return str(json.loads(answer)["run_id"])

    async def stream_values(self, graph: str, *, thread: str) -> None:
        """Follow a run's values to the end of the stream, and check its answer."""
        path = f"/threads/{thread}/runs/stream"
        answer = await self.post(path, body(graph, input=INPUTS[graph], stream_mode=["values"]))
        if ANSWERS[graph] not in answer or b"event: error" in answer:
            raise WrongAnswer(f"{path}: {answer[-200:]!r}")

    async def stream_tokens(self, graph: str, *, thread: str) -> Streamed:
        """Follow a run's tokens to the end of the stream."""
        counter = EventCounter("messages")
        return await self._stream(graph, "messages-tuple", counter, TOKENS, thread=thread)

    async def stream_burst(self, *, thread: str) -> Streamed:
        """Follow a run that sends as many events as it can to the end of the stream."""
        return await self._stream("burst", "custom", EventCounter("custom"), EVENTS, thread=thread)

    async def _stream(
        self, graph: str, mode: str, counter: EventCounter, least: int, *, thread: str
    ) -> Streamed:
        path = f"/threads/{thread}/runs/stream"
        data = body(graph, input=INPUTS[graph], stream_mode=[mode])
        began = time.perf_counter()
        first: float | None = None
        async with self._session.post(self._base + path, data=data) as response:
            if response.status >= 300:
                await _content(path, response)
            async for chunk in response.content.iter_any():
                counter.feed(chunk)
                if first is None and counter.events:
                    first = time.perf_counter() - began
        if counter.failed or counter.events < least or first is None:
            raise WrongAnswer(f"{path}: {counter.events} of {least} events")
        return Streamed(events=counter.events, first=first, total=time.perf_counter() - began)

    async def join(self, run: str, *, thread: str, on_open: Callable[[], None]) -> None:
        """Follow a run that is under way to the end of its stream."""
        path = f"/threads/{thread}/runs/{run}/stream"
        counter = EventCounter()
        async with self._session.get(self._base + path) as response:
            if response.status >= 300:
                await _content(path, response)
            on_open()
            async for chunk in response.content.iter_any():
                counter.feed(chunk)
        if counter.failed:
            raise WrongAnswer(f"{path}: an error event")


def body(graph: str, **fields: Any) -> bytes:
    """Encode the body that creates a run."""
    return json.dumps({"assistant_id": graph, **fields}).encode()


async def _content(path: str, response: aiohttp.ClientResponse) -> bytes:
    content = await response.read()
    if response.status >= 300:
        raise WrongAnswer(f"{path}: {response.status} {content[:200]!r}")
    if b'"__error__"' in content:
        raise WrongAnswer(f"{path}: {content[:200]!r}")
    return content
