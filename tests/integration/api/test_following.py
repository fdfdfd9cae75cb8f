"""Routes that follow a run. A double of the worker writes what a worker writes: rows, events and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from integration.api.doubles import Event, Worker, parse
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim, RunStatus

NOT_FOUND = {"error": "HTTPException", "message": "404: Run not found"}
SSE_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",
}


def path_of(run: dict[str, Any]) -> str:
    return f"/threads/{run['thread_id']}/runs/{run['run_id']}"


def names(raw: bytes) -> list[str]:
    return [name for name, _, _ in parse(raw)]


def run_of(response: Any) -> tuple[str, str]:
    """Thread and run of a response that may not be read to its end yet."""
    parts = response.headers["Content-Location"].split("/")
    return parts[2], parts[4]


# Creating and following


def test_create_and_stream(client: FlaskClient, thread_id: str, worker: Worker) -> None:
    response = client.post(
        f"/threads/{thread_id}/runs/stream", json={"assistant_id": "echo"}, buffered=False
    )
    _, run_id = run_of(response)
    claim = worker.claim(run_id)
    worker.send(claim, "values", {"value": "hi"})
    worker.end(claim, {"value": "hi"})

    raw = response.data
    assert response.status_code == 200
    assert response.headers["Location"] == f"/threads/{thread_id}/runs/{run_id}/stream"
    assert response.headers["Content-Location"] == f"/threads/{thread_id}/runs/{run_id}"
    assert {name: response.headers[name] for name in SSE_HEADERS} == SSE_HEADERS
    # The test client returns with the first bytes: here a heartbeat, because nothing ran yet.
    assert raw == (
        b": heartbeat\r\n\r\n"
        b'event: metadata\r\ndata: {"run_id":"%b","attempt":1}\r\n\r\n'
        b'event: values\r\ndata: {"value":"hi"}\r\n\r\n' % run_id.encode()
    )


def test_create_and_stream__resumable_events_have_ids(
    client: FlaskClient, thread_id: str, worker: Worker
) -> None:
    body = {"assistant_id": "echo", "stream_resumable": True}
    response = client.post(f"/threads/{thread_id}/runs/stream", json=body, buffered=False)
    claim = worker.claim(run_of(response)[1], resumable=True)
    worker.end(claim, {})

    [(_, _, event_id)] = parse(response.data)
    assert event_id is not None
    assert event_id.replace("-", "").isdigit()


def test_create_and_stream__silence_is_filled_with_comments(
    client: FlaskClient, thread_id: str, worker: Worker
) -> None:
    response = client.post(
        f"/threads/{thread_id}/runs/stream", json={"assistant_id": "echo"}, buffered=False
    )
    chunks = response.iter_encoded()

    assert next(chunks) == b": heartbeat\r\n\r\n"

    worker.end(worker.claim(run_of(response)[1]), {})
    assert names(b"".join(chunks)) == ["metadata"]


def test_create_and_wait(client: FlaskClient, thread_id: str, worker: Worker) -> None:
    response = client.post(
        f"/threads/{thread_id}/runs/wait", json={"assistant_id": "echo"}, buffered=False
    )
    _, run_id = run_of(response)
    chunks = response.iter_encoded()
    padding = next(chunks)
    worker.end(worker.claim(run_id), {"value": "hi"})

    assert padding == b"\n"
    assert orjson.loads(padding + b"".join(chunks)) == {"value": "hi"}
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Location"] == f"/threads/{thread_id}/runs/{run_id}/join"
    assert response.headers["Content-Location"] == f"/threads/{thread_id}/runs/{run_id}"


def test_create_stateless_and_stream(client: FlaskClient, worker: Worker) -> None:
    response = client.post("/runs/stream", json={"assistant_id": "echo"}, buffered=False)
    path = response.headers["Content-Location"]
    run_id = path.removeprefix("/runs/")
    worker.end(worker.claim(run_id), {})

    assert response.headers["Location"] == f"/runs/{run_id}/stream"
    assert names(response.data) == ["metadata"]


def test_create_stateless_and_wait(client: FlaskClient, worker: Worker) -> None:
    response = client.post("/runs/wait", json={"assistant_id": "echo"}, buffered=False)
    thread_id, run_id = run_of(response)
    worker.end(worker.claim(run_id), {"a": 1})

    assert response.headers["Location"] == f"/threads/{thread_id}/runs/{run_id}/join"
    assert response.get_json() == {"a": 1}


# Joining


@pytest.mark.parametrize("is_stateless", [False, True])
def test_join(
    client: FlaskClient, new_run: Callable[..., Any], worker: Worker, is_stateless: bool
) -> None:
    run = new_run("/runs") if is_stateless else new_run()
    for path in (path_of(run), f"/runs/{run['run_id']}"):
        response = client.get(f"{path}/join", buffered=False)
        assert response.headers["Location"] == f"{path}/join"
        assert response.headers["Content-Location"] == path
    worker.end(worker.claim(run["run_id"]), {"a": 1})

    assert response.get_json() == {"a": 1}


def test_join__after_the_end_answers_from_postgres(
    client: FlaskClient, new_run: Callable[..., Any], worker: Worker
) -> None:
    run = new_run()
    worker.finish(worker.claim(run["run_id"]))

    assert client.get(f"{path_of(run)}/join").data == b"null"


def test_join__after_a_failure(
    client: FlaskClient, new_run: Callable[..., Any], worker: Worker
) -> None:
    run = new_run()
    error = {"error": "ValueError", "message": "boom happened"}
    worker.finish(worker.claim(run["run_id"]), RunStatus.ERROR, error=error)

    response = client.get(f"{path_of(run)}/join")

    assert response.status_code == 200
    assert response.get_json() == {"__error__": error}


@pytest.mark.parametrize("path", ["/threads/{thread_id}/runs/{run_id}", "/runs/{run_id}"])
def test_join_and_stream__unknown_run(client: FlaskClient, thread_id: str, path: str) -> None:
    path = path.format(thread_id=thread_id, run_id=new_id())

    joined = client.get(f"{path}/join")
    streamed = client.get(f"{path}/stream")

    assert (joined.status_code, joined.get_json()) == (200, {"__error__": NOT_FOUND})
    assert joined.headers["Location"] == f"{path}/join"
    assert (streamed.status_code, parse(streamed.data)) == (200, [("error", NOT_FOUND, None)])
    assert streamed.headers["Content-Location"] == path


def test_join__a_run_of_another_thread(client: FlaskClient, new_run: Callable[..., Any]) -> None:
    run = new_run()
    other = client.post("/threads", json={}).get_json()["thread_id"]

    assert client.get(path_of({**run, "thread_id": other}) + "/join").get_json() == {
        "__error__": NOT_FOUND
    }


# Streaming what runs already


def joined(client: FlaskClient, run: dict[str, Any], query: str = "", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(f"{path_of(run)}/stream{query}", headers=named, buffered=False)


def follow_to_the_end(response: Any, worker: Worker, claim: Claim) -> bytes:
    """Read a stream that has just begun, while the run goes on to its end."""
    read = list[bytes]()
    reading = Thread(target=lambda: read.extend(response.iter_encoded()))
    reading.start()
    wait_until(lambda: bool(worker.rt.reader and worker.rt.reader.followers))
    # It has read to the end of what was there.
    wait_until(lambda: worker.rt.reader is not None and worker.rt.reader.behind == 0)
    worker.send(claim, "values", {"n": 2})
    worker.send(claim, "custom", {"tick": 1})
    worker.send(claim, "messages/partial|child:1", [1])
    worker.end(claim, {"n": 2})
    reading.join(timeout=30)
    return b"".join(read)


def wait_until(is_true: Callable[[], bool]) -> None:
    async def poll() -> None:
        async with asyncio.timeout(10):
            while not is_true():
                await asyncio.sleep(0.01)

    asyncio.run(poll())


@pytest.fixture
def running(
    new_run: Callable[..., Any], worker: Worker
) -> Callable[..., tuple[dict[str, Any], Claim]]:
    """A run that has sent two events."""

    def start(*, resumable: bool) -> tuple[dict[str, Any], Claim]:
        run = new_run(stream_resumable=resumable)
        claim = worker.claim(run["run_id"], resumable=resumable)
        worker.send(claim, "values", {"n": 1})
        return run, claim

    return start


LATER = ["values", "custom", "messages/partial|child:1"]


@pytest.mark.parametrize(
    ("resumable", "headers", "expected"),
    [
        (False, {}, LATER),
        (False, {"Last_Event_ID": "-1"}, LATER),
        (True, {}, LATER),
        (True, {"Last_Event_ID": "-1"}, ["metadata", "values", *LATER]),
    ],
)
def test_stream__while_it_runs(
    client: FlaskClient,
    running: Callable[..., tuple[dict[str, Any], Claim]],
    worker: Worker,
    resumable: bool,
    headers: dict[str, str],
    expected: list[str],
) -> None:
    run, claim = running(resumable=resumable)

    raw = follow_to_the_end(joined(client, run, **headers), worker, claim)

    assert names(raw) == expected
    assert all((event_id is not None) == resumable for _, _, event_id in parse(raw))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?stream_mode=custom", ["custom"]),
        ("?stream_mode=%5B%22custom%22%5D", ["custom"]),
        ("?stream_mode=values&stream_mode=custom", ["values", "custom"]),
        ("?stream_mode=messages", ["messages/partial|child:1"]),
        ("?stream_mode=messages-tuple", []),
        ("?stream_mode=updates", []),
        ("?stream_mode=", LATER),
    ],
)
def test_stream__only_some_modes(
    client: FlaskClient,
    running: Callable[..., tuple[dict[str, Any], Claim]],
    worker: Worker,
    query: str,
    expected: list[str],
) -> None:
    run, claim = running(resumable=False)

    raw = follow_to_the_end(joined(client, run, query), worker, claim)

    assert names(raw) == expected


def test_stream__after_the_end(
    client: FlaskClient, running: Callable[..., tuple[dict[str, Any], Claim]], worker: Worker
) -> None:
    run, claim = running(resumable=True)
    worker.end(claim, {"n": 1})

    every = parse(joined(client, run, Last_Event_ID="-1").data)
    rest = parse(joined(client, run, Last_Event_ID=str(every[0][2])).data)

    assert [name for name, _, _ in every] == ["metadata", "values"]
    assert rest == every[1:]
    assert joined(client, run).data == b""
    assert joined(client, run, Last_Event_ID="garbage").data == b""


def test_stream__after_the_end_of_a_run_that_is_not_resumable(
    client: FlaskClient, running: Callable[..., tuple[dict[str, Any], Claim]], worker: Worker
) -> None:
    run, claim = running(resumable=False)
    worker.end(claim, {"n": 1})

    assert joined(client, run, Last_Event_ID="-1").data == b""


# Redis loses things

LOST = ("gap", None, None)


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        (["values"], ("values", {"value": "hi", "log": ["HI"]}, None)),
        (["updates"], None),
    ],
)
def test_stream__the_log_was_lost(
    client: FlaskClient,
    thread_id: str,
    worker: Worker,
    run_graph: Callable[..., None],
    modes: list[str],
    expected: Event | None,
) -> None:
    body = {"assistant_id": "echo", "stream_mode": modes}
    response = client.post(f"/threads/{thread_id}/runs/stream", json=body, buffered=False)
    claim = worker.claim(run_of(response)[1])
    run_graph("echo", thread_id, "hi")
    worker.rt.redis.flushdb()
    worker.finish(claim)

    metadata = ("metadata", {"run_id": claim.run_id, "attempt": 1}, None)
    assert parse(response.data) == [metadata, LOST, *([expected] if expected else [])]


def test_stream__the_log_expired(
    client: FlaskClient,
    running: Callable[..., tuple[dict[str, Any], Claim]],
    worker: Worker,
    run_graph: Callable[..., None],
) -> None:
    run, claim = running(resumable=True)
    run_graph("echo", run["thread_id"], "hi")
    worker.end(claim, {})
    worker.rt.redis.flushdb()

    raw = joined(client, run, Last_Event_ID="-1").data

    assert parse(raw) == [LOST, ("values", {"value": "hi", "log": ["HI"]}, None)]


def test_stream__the_log_of_a_failure_was_lost(
    client: FlaskClient, thread_id: str, worker: Worker
) -> None:
    body = {"assistant_id": "echo", "stream_mode": "updates"}
    response = client.post(f"/threads/{thread_id}/runs/stream", json=body, buffered=False)
    claim = worker.claim(run_of(response)[1])
    worker.rt.redis.flushdb()
    error = {"error": "ValueError", "message": "boom happened"}
    worker.finish(claim, RunStatus.ERROR, error=error)

    assert parse(response.data)[1:] == [LOST, ("error", error, None)]


def test_wait__the_log_was_lost(
    client: FlaskClient, thread_id: str, worker: Worker, run_graph: Callable[..., None]
) -> None:
    response = client.post(
        f"/threads/{thread_id}/runs/wait", json={"assistant_id": "echo"}, buffered=False
    )
    claim = worker.claim(run_of(response)[1])
    run_graph("echo", thread_id, "hi")
    worker.rt.redis.flushdb()
    worker.finish(claim)

    assert response.get_json() == {"value": "hi", "log": ["HI"]}


def test_wait__the_run_was_deleted_meanwhile(client: FlaskClient, thread_id: str, sql: Any) -> None:
    response = client.post(
        f"/threads/{thread_id}/runs/wait", json={"assistant_id": "echo"}, buffered=False
    )
    sql("DELETE FROM run")

    assert response.get_json() == {"__error__": NOT_FOUND}


@pytest.mark.parametrize("last_event_id", ["-1", "the last one"])
def test_stream__the_log_was_lost_before_a_client_came_back(
    client: FlaskClient,
    running: Callable[..., tuple[dict[str, Any], Claim]],
    worker: Worker,
    run_graph: Callable[..., None],
    last_event_id: str,
) -> None:
    run, claim = running(resumable=True)
    run_graph("echo", run["thread_id"], "hi")
    before = joined(client, run, Last_Event_ID="-1")
    [*_, (_, _, newest)] = parse(next(before.iter_encoded()))
    before.close()
    worker.rt.redis.flushdb()
    worker.send(claim, "custom", {"n": 3})

    response = joined(
        client, run, Last_Event_ID=newest if last_event_id == "the last one" else "-1"
    )
    chunks = response.iter_encoded()
    first = b""
    while b"custom" not in first:
        first += next(chunks)
    worker.end(claim, {"n": 3})

    told = parse(first + b"".join(chunks))
    snapshot = ("values", {"value": "hi", "log": ["HI"]}, None)
    assert [name for name, *_ in told] == ["gap", "custom", "values"]
    assert told[0] == LOST
    assert told[-1] == snapshot
