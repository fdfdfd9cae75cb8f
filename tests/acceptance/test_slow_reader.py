"""A client that does not read costs nobody anything, and is told what it missed."""

import re

from acceptance.sse import frames
from acceptance.system import System, wait_for

#: More than sockets hold and than Redis keeps of a run (32 MB).
TIMES, SIZE = 250, 200_000


def gauge(server: System, name: str) -> float:
    text = server.request("GET", "/metrics").body.decode()
    found = re.search(rf"^trellis_streams_{name} (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def test_a_slow_reader(server: System, thread_id: str) -> None:
    body = {
        "assistant_id": "shouting",
        "input": {"times": TIMES, "size": SIZE},
        "stream_mode": ["custom", "values"],
    }
    gaps = gauge(server, "gaps")
    with server.open("POST", f"/threads/{thread_id}/runs/stream", body) as slow:
        first = slow.readline()
        values = server.get(f"{slow.getheader('Content-Location')}/join")
        wait_for(lambda: gauge(server, "behind") >= 1, what="a stream that is behind")
        waiting = gauge(server, "waiting_bytes")
        told = frames(first + slow.read())

    assert values == {"times": TIMES, "size": SIZE, "done": True}
    assert 0 < waiting < 12e6
    names = [name for name, *_ in told]
    assert names[0] == "metadata"
    assert names.count("custom") < TIMES
    assert names.count("gap") == gauge(server, "gaps") - gaps > 0
    assert told[-1] == ("values", values, None)
