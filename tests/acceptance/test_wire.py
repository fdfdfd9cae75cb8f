"""What goes over the wire, byte for byte: headers, server-sent events, padding, replay."""

import re
import time
import uuid

import orjson
import pytest

from acceptance.course import Course
from acceptance.sse import HEARTBEAT, frames
from acceptance.system import Answer, System, wait_for

SSE = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "connection": "keep-alive",
    "x-accel-buffering": "no",
    "transfer-encoding": "chunked",
}
INPUT = {"assistant_id": "compiled", "input": {"said": ["ü"]}}
NOT_FOUND = b'{"error":"HTTPException","message":"404: Run not found"}'


def shown(answer: Answer, headers: dict[str, str]) -> dict[str, str | None]:
    return {name: answer.headers.get(name) for name in headers}


def path_of(server: System, thread_id: str) -> str:
    """Path of the thread's newest run."""
    [run] = server.get(f"/threads/{thread_id}/runs?limit=1")
    return f"/threads/{thread_id}/runs/{run['run_id']}"


# Create


def test_stream(server: System, thread_id: str) -> None:
    answer = server.request("POST", f"/threads/{thread_id}/runs/stream", INPUT)

    path = path_of(server, thread_id)
    run_id = path.rpartition("/")[2]
    assert answer.status == 200
    assert shown(answer, SSE) == SSE
    assert answer.headers["location"] == f"{path}/stream"
    assert answer.headers["content-location"] == path
    expected = (
        f'event: metadata\r\ndata: {{"run_id":"{run_id}","attempt":1}}\r\n\r\n'
        'event: values\r\ndata: {"said":["ü"]}\r\n\r\n'
        'event: values\r\ndata: {"said":["ü","compiled"]}\r\n\r\n'
    )
    assert answer.body == expected.encode()


def test_stream__resumable_frames_have_ids(server: System, thread_id: str) -> None:
    body = {**INPUT, "stream_resumable": True}

    answer = server.request("POST", f"/threads/{thread_id}/runs/stream", body)

    ids = [frame[2] for frame in frames(answer.body)]
    assert len(ids) == 3
    order = [tuple(map(int, each.split("-"))) for each in ids if each]
    assert len({*order}) == 3
    assert order == sorted(order)


def test_wait(server: System, thread_id: str) -> None:
    answer = server.request("POST", f"/threads/{thread_id}/runs/wait", INPUT)

    path = path_of(server, thread_id)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"{path}/join"
    assert answer.headers["content-location"] == path
    assert answer.body.strip() == '{"said":["ü","compiled"]}'.encode()


def test_create(server: System, thread_id: str) -> None:
    answer = server.request("POST", f"/threads/{thread_id}/runs", INPUT)

    run = answer.json()
    assert answer.status == 200
    assert answer.headers["content-location"] == f"/threads/{thread_id}/runs/{run['run_id']}"
    assert "location" not in answer.headers
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", run["created_at"])
    assert [*run] == [
        "run_id",
        "thread_id",
        "assistant_id",
        "metadata",
        "status",
        "kwargs",
        "multitask_strategy",
        "created_at",
        "updated_at",
        "langsmith_session_name",
        "cancel_reason",
    ]


def test_create__stateless(server: System) -> None:
    created = server.request("POST", "/runs", INPUT)
    waited = server.request("POST", "/runs/wait", INPUT)
    streamed = server.request("POST", "/runs/stream", INPUT)

    run_id = frames(streamed.body)[0][1]["run_id"]
    assert created.headers["content-location"] == f"/runs/{created.json()['run_id']}"
    assert re.fullmatch(r"/threads/[^/]+/runs/[^/]+", waited.headers["content-location"])
    assert waited.headers["location"] == waited.headers["content-location"] + "/join"
    assert streamed.headers["content-location"] == f"/runs/{run_id}"
    assert streamed.headers["location"] == f"/runs/{run_id}/stream"


def test_wait__omits_a_response_schema_of_null(server: System, thread_id: str) -> None:
    body = {"assistant_id": "hitl", "input": {"value": "v"}}

    answer = server.request("POST", f"/threads/{thread_id}/runs/wait", body)

    assert re.fullmatch(
        rb'\{"value":"v","log":\["prepare"\],"__interrupt__":\[\{"value":'
        rb'\{"question":"approve\?","value":"v"\},"id":"[0-9a-f]{32}"\}\]\}',
        answer.body.strip(),
    )


def test_silence(server: System, course: Course) -> None:
    """After 5 s without an event: a comment in a stream, a newline before a wait's JSON."""
    stream = {
        "assistant_id": "steps",
        "input": course.input(hold=("one",)),
        "stream_mode": "updates",
    }
    with (
        server.open("POST", "/runs/stream", stream) as streamed,
        server.open("POST", "/runs/wait", stream) as waited,
    ):
        assert (streamed.status, waited.status) == (200, 200)
        head = [streamed.readline() for _ in range(3)]
        started = time.monotonic()
        beat = [streamed.readline() for _ in range(2)]
        silence = time.monotonic() - started
        padding = waited.read(1)
        course.open("one")
        rest, values = streamed.read(), waited.read()

    assert head[0] == b"event: metadata\r\n"
    assert b"".join(beat) == HEARTBEAT
    # Clients take a stream for dead after three of them.
    assert 4 < silence < 8
    assert padding == b"\n"
    assert [frame[0] for frame in frames(rest)] == ["updates"] * 3
    assert orjson.loads(values)["log"] == ["one", "two", "three"]


def test_stream__goes_on_without_its_client(server: System, thread_id: str, course: Course) -> None:
    body = {"assistant_id": "steps", "input": course.input(hold=("one",))}
    with server.open("POST", f"/threads/{thread_id}/runs/stream", body) as response:
        assert response.readline() == b"event: metadata\r\n"

    course.open("one")

    answer = server.request("GET", path_of(server, thread_id) + "/join")
    assert answer.json()["log"] == ["one", "two", "three"]


# Join


@pytest.fixture
def finished(server: System, thread_id: str, course: Course) -> tuple[str, bytes]:
    """Path and whole stream of a resumable run that is over."""
    body = {
        "assistant_id": "steps",
        "input": course.input(),
        "stream_mode": ["updates", "values"],
        "stream_resumable": True,
    }
    answer = server.request("POST", f"/threads/{thread_id}/runs/stream", body)
    return path_of(server, thread_id), answer.body


def replay(server: System, path: str, last_event_id: str, query: str = "") -> Answer:
    headers = {"Last-Event-ID": last_event_id}
    return server.request("GET", f"{path}/stream{query}", headers=headers)


def test_join_stream__replays_all(server: System, finished: tuple[str, bytes]) -> None:
    path, body = finished

    answer = replay(server, path, "-1")

    assert answer.body == body
    assert shown(answer, SSE) == SSE
    assert answer.headers["location"] == f"{path}/stream"
    assert answer.headers["content-location"] == path


def test_join_stream__replays_after_an_id(server: System, finished: tuple[str, bytes]) -> None:
    path, body = finished
    ids = [frame[2] for frame in frames(body)]

    for position, event_id in enumerate(ids):
        answer = replay(server, path, str(event_id))
        assert [frame[2] for frame in frames(answer.body)] == ids[position + 1 :]


@pytest.mark.parametrize("last_event_id", [None, "garbage", "1-", "99999999999999999999999-0"])
def test_join_stream__of_the_past_is_empty(
    server: System, finished: tuple[str, bytes], last_event_id: str | None
) -> None:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}

    answer = server.request("GET", f"{finished[0]}/stream", headers=headers)

    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("query", "events"),
    [
        ("?stream_mode=updates", {"updates"}),
        ("?stream_mode=updates&stream_mode=values", {"updates", "values"}),
        ('?stream_mode=["updates","values"]', {"updates", "values"}),
        ("?stream_mode=custom", set()),
        ("?stream_mode=", {"metadata", "updates", "values"}),
    ],
)
def test_join_stream__by_mode(
    server: System, finished: tuple[str, bytes], query: str, events: set[str]
) -> None:
    path, body = finished

    answer = replay(server, path, "-1", query)

    assert frames(answer.body) == [frame for frame in frames(body) if frame[0] in events]


def test_join_stream__from_now_on(server: System, thread_id: str, course: Course) -> None:
    """Nothing of the past without Last-Event-ID, nor with one when the run is not resumable."""
    given = course.input(hold=("two", "three"))
    body = {"assistant_id": "steps", "input": given, "stream_mode": "updates"}
    run = server.post(f"/threads/{thread_id}/runs", body)
    course.wait_until_notes(">two")
    path = f"/threads/{thread_id}/runs/{run['run_id']}/stream"
    with (
        server.open("GET", path) as plain,
        server.open("GET", path, headers={"Last-Event-ID": "-1"}) as replaying,
    ):
        course.open("two")
        # The first sign of life: the second step, or a heartbeat if that was missed by a hair.
        heads = [plain.readline(), replaying.readline()]
        course.open("three")
        bodies = [
            head + response.read() for head, response in zip(heads, (plain, replaying), strict=True)
        ]

    for each in bodies:
        data = [frame[1] for frame in frames(each)]
        assert data in (
            [{"two": {"log": ["two"]}}, {"three": {"log": ["three"]}}],
            [{"three": {"log": ["three"]}}],
        )


def test_join_stream__stateless_run(server: System, course: Course) -> None:
    body = {
        "assistant_id": "steps",
        "input": course.input(hold=("three",)),
        "stream_mode": "updates",
        "stream_resumable": True,
    }
    run = server.post("/runs", body)
    course.wait_until_notes(">three")

    with server.open(
        "GET", f"/runs/{run['run_id']}/stream", headers={"Last-Event-ID": "-1"}
    ) as response:
        first = response.readline()
        course.open("three")
        rest = response.read()

    assert [frame[0] for frame in frames(first + rest)] == ["metadata"] + ["updates"] * 3


def test_join__stateless_run(server: System, course: Course) -> None:
    body = {"assistant_id": "steps", "input": course.input(hold=("one",))}
    run = server.post("/runs", body)

    with server.open("GET", f"/runs/{run['run_id']}/join") as response:
        course.open("one")
        values = orjson.loads(response.read())

    assert values["log"] == ["one", "two", "three"]


def test_join__unknown_run(server: System, thread_id: str) -> None:
    path = f"/threads/{thread_id}/runs/{uuid.uuid4()}"

    joined = server.request("GET", f"{path}/join")
    streamed = server.request("GET", f"{path}/stream")

    assert (joined.status, joined.body) == (200, b'{"__error__":%b}' % NOT_FOUND)
    assert streamed.status == 200
    assert streamed.body == b"event: error\r\ndata: %b\r\n\r\n" % NOT_FOUND


# Around


def test_cors(server: System, thread_id: str) -> None:
    answer = server.request(
        "POST", f"/threads/{thread_id}/runs", INPUT, headers={"Origin": "https://example.com"}
    )

    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"content-location", "location"} <= set(exposed)


def test_ok(server: System) -> None:
    answer = server.request("GET", "/ok")
    deep = server.request("GET", "/ok?check_db=1")

    assert (answer.status, answer.body) == (200, b'{"ok":true,"services":{}}')
    assert deep.json() == {"ok": True, "services": {"database": "ok", "redis": "ok"}}


def test_temporary_thread__is_pruned(server: System) -> None:
    answer = server.request("POST", "/runs/wait", INPUT)
    thread_id = answer.headers["content-location"].split("/")[2]

    def is_gone() -> bool:
        return not server.rows("SELECT 1 FROM thread WHERE thread_id = %s", thread_id)

    assert server.request("GET", f"/threads/{thread_id}").status == 404
    # The log of its events may be read for a while yet, and so may the run.
    assert wait_for(lambda: is_gone() or _expires(server, thread_id), what="an end of the thread")


def _expires(server: System, thread_id: str) -> bool:
    [(expires,)] = server.rows(
        "SELECT expires_at IS NOT NULL FROM thread WHERE thread_id = %s", thread_id
    )
    return bool(expires)


def test_delete__an_answer_without_a_body_has_no_type(server: System, thread_id: str) -> None:
    answer = server.request("DELETE", f"/threads/{thread_id}")

    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers
