"""Server-sent events as bytes: frames that end in CRLF, one line of data each. No I/O."""

from __future__ import annotations

import re
from functools import lru_cache

#: Sent after a silence; clients count them to tell a quiet run from a dead connection.
HEARTBEAT = b": heartbeat\r\n\r\n"
#: Last words of a server that drains: come back in 200 ms, with Last-Event-ID.
CLOSING = b"retry: 200\r\n\r\n"

#: Events are missing here. Clients that do not know it pass over it, as over any event that they did not ask for.
GAP = b"event: gap\r\ndata: null\r\n\r\n"

_EVENT_ID = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?", re.ASCII)
_CR, _LF = b"\r\n"
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def frame(event: str, data: bytes) -> bytes:
    """An event without its end: the reader adds the id, if the client wants one, and the empty line."""
    if _CR in data or _LF in data:
        data = data.translate(_LINE_BREAKS)
    return _head(event) + data + b"\r\n"


def closed(frame: bytes, event_id: bytes | None = None) -> bytes:
    """The whole event, as it goes to the client."""
    if event_id is None:
        return frame + b"\r\n"
    return frame + b"id: " + event_id + b"\r\n\r\n"


def event(name: str, data: bytes, event_id: bytes | None = None) -> bytes:
    """A whole event that does not come from a run's log."""
    return closed(frame(name, data), event_id)


def cursor(last_event_id: str) -> str | None:
    """Where to go on after a `Last-Event-ID`. None means that it is no id of ours."""
    if last_event_id == "-1":
        return "0"
    found = _EVENT_ID.fullmatch(last_event_id)
    if found is None or any(int(part or 0) >= 2**64 for part in found.groups()):
        return None
    return last_event_id


@lru_cache(maxsize=4096)
def _head(event: str) -> bytes:
    # Names carry a subgraph's namespace, which is made of the user's node names.
    name = event.encode("utf-8", "replace").translate(_LINE_BREAKS)
    return b"event: %b\r\ndata: " % name
