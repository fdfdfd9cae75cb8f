"""Server-sent events as they stand in a body, checked to the byte."""

import re
from typing import Any

import orjson

HEARTBEAT = b": heartbeat\r\n\r\n"

FRAME = re.compile(
    rb"event: (?P<event>[^\r\n]+)\r\ndata: (?P<data>[^\r\n]+)\r\n(?:id: (?P<id>\d+-\d+)\r\n)?\r\n"
)


def frames(body: bytes) -> list[tuple[str, Any, str | None]]:
    """Event, data and id of each frame; a single byte that belongs to none fails, but for heartbeats."""
    body = body.replace(HEARTBEAT, b"")
    found = list(FRAME.finditer(body))
    assert b"".join(frame[0] for frame in found) == body
    return [
        (frame["event"].decode(), orjson.loads(frame["data"]), frame["id"] and frame["id"].decode())
        for frame in found
    ]
