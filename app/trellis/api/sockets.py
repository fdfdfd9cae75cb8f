"""
A WebSocket of protocol v2: commands in, their answers and the events of a thread out.

Every frame is a request to one of the thread's routes, so that whatever holds there holds here: who may do it, what is
refused, what is counted. Only subscriptions live here, with their connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing, suppress
from typing import Any
from uuid import uuid4

import orjson
from flask import Response

from trellis import telemetry
from trellis.api import body
from trellis.api.bodies import AsyncBody
from trellis.domain import places
from trellis.errors import Invalid, Unavailable
from trellis.stream.turns import Turns

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: Sends a body to a path of the API, as whoever opened the socket.
Ask = Callable[[str, bytes], Awaitable[Response]]
#: An event with its number, or none: all up to the number has been told.
Line = tuple[int, bytes]

_PATH = re.compile(r"(/threads/[^/]+)/stream/events")
#: Said before a connection is closed for what its HTTP status says.
_REFUSED = 4000
#: The server fails; it restarts: come back.
_FAILED, _RESTART = 1011, 1012
#: Of the text of a close frame.
_MAX_REASON_BYTES = 123
_MAX_SUBSCRIPTIONS = 100
#: Replayed events that are held back until their number can be told, and their bytes, about.
_MAX_HELD, _MAX_HELD_BYTES = 1_000, 1 << 20
#: A client's subscriptions come together, or almost: so long the end of a run waits for another one, in seconds.
_COMPANY_SECONDS = 0.25
_SEQ = b'","seq":'
_BAD_JSON = "Protocol commands must be valid JSON."
_ENVELOPE = "Protocol commands must include an integer id and string method."
_PROBE = b'{"channels":["lifecycle"]}'


def thread_path(path: str) -> str | None:
    """The path of the thread whose socket this is. None: there is none here."""
    found = _PATH.fullmatch(path)
    return found and found[1]


async def converse(path: str, receive: Receive, send: Send, ask: Ask) -> None:
    """Serve a connection to the thread at a path until it is closed."""
    await receive()
    await send({"type": "websocket.accept"})
    # Whoever may not follow the thread may not do anything here, and is told so as by HTTP.
    if (refusal := await _refused(path, ask)) is not None:
        reason = _detail(refusal).encode()[:_MAX_REASON_BYTES]
        await _close(send, _REFUSED + refusal.status_code, reason.decode(errors="ignore"))
        return
    session = _Session(path, send, ask)
    try:
        await session.listen(receive)
    finally:
        await session.end()


async def _refused(path: str, ask: Ask) -> Response | None:
    """What is answered to one who may not follow the thread."""
    probe = await ask(f"{path}/stream/events", _PROBE)
    if not isinstance(probe.response, AsyncBody):
        return probe
    await probe.response.aclose()
    return None


class _Session:
    """A connection with its subscriptions."""

    __slots__ = ("_alone_at", "_ask", "_last", "_path", "_pumps", "_send", "_seq", "_turns")

    def __init__(self, path: str, send: Send, ask: Ask) -> None:
        self._path = path
        self._send = send
        self._ask = ask
        self._seq = 0  #: the highest that was sent
        #: The beginning, with its id, of the event that was sent last to all the subscriptions that there are.
        self._last = b""
        self._pumps: dict[str, asyncio.Task[None]] = {}
        # By number over all subscriptions: clients do not wait for what comes after the end of its run.
        self._turns = Turns()
        self._alone_at = 0.0  #: of the loop: no more subscriptions are expected

    async def listen(self, receive: Receive) -> None:
        """Do what the client says, one after the other, until it leaves."""
        while (message := await receive())["type"] == "websocket.receive":
            frame = message.get("bytes") or (message.get("text") or "").encode("utf-8", "replace")
            await self._handle(frame)

    async def end(self) -> None:
        """Let go of all subscriptions."""
        pumps = list(self._pumps.values())
        for pump in pumps:
            pump.cancel()
        if pumps:
            await asyncio.wait(pumps)

    async def _handle(self, frame: bytes) -> None:
        try:
            command = body.load(frame)
        except Invalid as error:
            told = error.detail.replace("Invalid JSON in request body", _BAD_JSON)
            await self._say(_error(None, "invalid_argument", told))
            return
        if not _is_envelope(command):
            await self._say(_error(None, "invalid_argument", _ENVELOPE))
            return
        match command["method"]:
            case "subscription.subscribe" | "subscription.reconnect":
                await self._subscribe(command)
            case "subscription.unsubscribe":
                await self._unsubscribe(command)
            case _:
                await self._pass_on(command, frame)

    async def _pass_on(self, command: Mapping[str, Any], frame: bytes) -> None:
        response = await self._ask(f"{self._path}/commands", frame)
        told = response.get_json(silent=True)
        if not isinstance(told, dict) or "type" not in told:
            # Not by the route: it is switched off, or what stands before it has refused.
            told = _error(command["id"], _code(response.status_code), _detail(response))
        # What a command says itself is as of before it: of its run, events may have been sent since.
        await (self._say(told) if "meta" in told else self._answer(told))

    async def _subscribe(self, command: Mapping[str, Any]) -> None:
        if len(self._pumps) >= _MAX_SUBSCRIPTIONS:
            told = f"A connection has {_MAX_SUBSCRIPTIONS} subscriptions at most. End one first."
            await self._answer(_error(command["id"], "invalid_argument", told))
            return
        subscription_id = str(uuid4())
        # Others wait for what it replays, also those that came just before it.
        self._turns.move(subscription_id, 0)
        # What has been sent, it has not had.
        self._last = b""
        self._alone_at = asyncio.get_running_loop().time() + _COMPANY_SECONDS
        wanted = orjson.dumps(command.get("params") or {})
        response = await self._ask(f"{self._path}/stream/events", wanted)
        if isinstance(response.response, AsyncBody):
            self._start(subscription_id, command, response.response)
            return
        self._turns.leave(subscription_id)
        told = _detail(response)
        if command["method"] == "subscription.reconnect" and told.startswith(
            "channels is required"
        ):
            told = "subscription.reconnect requires a non-empty channels array."
        await self._answer(_error(command["id"], _code(response.status_code), told))

    def _start(self, subscription_id: str, command: Mapping[str, Any], events: AsyncBody) -> None:
        pump = asyncio.create_task(self._pump(subscription_id, command, events))
        self._pumps[subscription_id] = pump
        pump.add_done_callback(lambda _: self._forget(subscription_id))

    def _forget(self, subscription_id: str) -> None:
        self._pumps.pop(subscription_id, None)
        self._turns.leave(subscription_id)

    async def _pump(
        self, subscription_id: str, command: Mapping[str, Any], events: AsyncBody
    ) -> None:
        """Send what was there already, once its number has been told, then what comes."""
        try:
            async with aclosing(events):
                chunks = aiter(events.chunks)
                await self._replay(subscription_id, command, chunks)
                async for chunk in chunks:
                    await self._tell(subscription_id, _lines(chunk))
        except Unavailable as error:
            await self._leave(error.detail, _RESTART)
        except (OSError, RuntimeError):
            pass  # the client is gone
        except Exception as error:  # what happens on a thread cannot be told: the database
            telemetry.log().error(telemetry.REQUEST_FAILED, exc_info=error)
            await self._leave("Internal Server Error", _FAILED)

    async def _replay(
        self, subscription_id: str, command: Mapping[str, Any], chunks: AsyncIterator[bytes]
    ) -> None:
        held = await _until_live(chunks)
        replayed = sum(1 for _, event in held if event)
        result = _subscribed(command["method"], subscription_id, replayed)
        await self._answer({"type": "success", "id": command["id"], "result": result})
        await self._tell(subscription_id, held)

    async def _leave(self, why: str, code: int) -> None:
        with suppress(OSError, RuntimeError):
            await self._say(_error(None, "unknown_error", why))
            await _close(self._send, code, why)

    async def _tell(self, subscription_id: str, lines: list[Line]) -> None:
        for seq, event in lines:
            if event:
                if places.place_of_seq(seq).n == places.END:
                    self._turns.move(subscription_id, seq)
                    await asyncio.sleep(self._alone_at - asyncio.get_running_loop().time())
                await self._turns.take(subscription_id, seq)
                # Clients give an event to every subscription that wants it: once is enough for all.
                if (head := event[: event.index(_SEQ)]) != self._last:
                    self._seq = max(self._seq, seq)
                    await self._send({"type": "websocket.send", "text": event.decode()})
                    self._last = head
            else:
                self._turns.move(subscription_id, seq + 1)

    async def _unsubscribe(self, command: Mapping[str, Any]) -> None:
        params = command.get("params") or {}
        named = params.get("subscription_id") if isinstance(params, dict) else None
        pump = self._pumps.get(named) if isinstance(named, str) else None
        if pump is None:
            told = f"Unknown subscription: {str(named)[:100]}"
            await self._answer(_error(command["id"], "no_such_subscription", told))
            return
        pump.cancel()
        await asyncio.wait({pump})
        await self._answer({"type": "success", "id": command["id"], "result": {}})

    async def _answer(self, told: dict[str, Any]) -> None:
        await self._say({**told, "meta": {"applied_through_seq": self._seq}})

    async def _say(self, told: Mapping[str, Any]) -> None:
        await self._send({"type": "websocket.send", "text": orjson.dumps(told).decode()})


async def _until_live(chunks: AsyncIterator[bytes]) -> list[Line]:
    """What was there already; of very much, the first."""
    held: list[Line] = []
    size = 0
    async for chunk in chunks:
        held += _lines(chunk)
        size += len(chunk)
        if not chunk or len(held) >= _MAX_HELD or size >= _MAX_HELD_BYTES:
            break
    return held


def _lines(chunk: bytes) -> list[Line]:
    return [_line(line) for line in chunk.splitlines()]


def _line(line: bytes) -> Line:
    if line.isdigit():
        return int(line), b""
    start = line.index(_SEQ) + len(_SEQ)
    return int(line[start : line.index(b",", start)]), line


def _subscribed(method: str, subscription_id: str, replayed: int) -> dict[str, Any]:
    if method == "subscription.reconnect":
        return {"restored": True, "missed_events": replayed, "subscription_id": subscription_id}
    return {"subscription_id": subscription_id, "replayed_events": replayed}


def _is_envelope(command: Any) -> bool:
    if not isinstance(command, dict) or not isinstance(command.get("method"), str):
        return False
    given = command.get("id")
    return isinstance(given, int) and not isinstance(given, bool) and given >= 0


def _error(command_id: int | None, code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "id": command_id, "error": code, "message": message}


def _detail(response: Response) -> str:
    """What is said of a refusal."""
    told = response.get_json(silent=True)
    if isinstance(told, dict) and "detail" in told:
        return str(told["detail"])
    return response.get_data(as_text=True)


def _code(status: int) -> str:
    return (
        "permission_denied"
        if status in (401, 403)
        else "invalid_argument"
        if status == 400
        else "unknown_error"
    )


async def _close(send: Send, code: int, reason: str) -> None:
    await send({"type": "websocket.close", "code": code, "reason": reason})
