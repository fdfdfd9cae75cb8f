"""States larger than the end of a log may be: each is told once, whichever stream tells it."""

from itertools import pairwise
from typing import Any

import orjson

from acceptance.sse import frames
from acceptance.system import System

#: Together with the two answers, three states.
LARGE = {"messages": [{"role": "user", "content": "x" * 2_000_000}]}
LAST = (b'"run_done"', b'"completed"')


def states(system: System, method: str, path: str, body: Any = None, **headers: str) -> list[bytes]:
    """The data of all `values` of a stream that never ends, up to the end of a run."""
    lines: list[bytes] = []
    with system.open(method, path, body, headers=headers) as response:
        while line := response.readline():
            lines.append(line)
            if any(last in line for last in LAST):
                break
    return [data for name, data in pairwise(lines) if name == b"event: values\r\n"]


def test_every_stream(server: System) -> None:
    thread_id = server.new_thread()
    body = {"assistant_id": "chat", "input": LARGE, "stream_resumable": True}

    answer = server.request("POST", f"/threads/{thread_id}/runs/stream", body)

    of_run = [orjson.dumps(data) for name, data, _ in frames(answer.body) if name == "values"]
    path = f"/threads/{thread_id}/stream"
    of_thread = states(server, "GET", path, **{"Last-Event-ID": "0"})
    wanted = {"channels": ["values", "lifecycle"]}
    of_protocol = states(server, "POST", f"{path}/events", wanted)
    for shown in (of_run, of_thread, of_protocol):
        assert len(shown) == len(set(shown)) == 3
