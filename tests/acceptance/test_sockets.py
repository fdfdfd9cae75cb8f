"""Protocol v2 over a WebSocket: frames as they are sent and answered."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from acceptance.course import Course
from acceptance.sockets import Socket
from acceptance.system import System, running, wait_for

BAD_ENVELOPE = "Protocol commands must include an integer id and string method."


@pytest.fixture
def dial(server: System) -> Iterator[Callable[..., Socket]]:
    with ExitStack() as stack:

        def dial(thread_id: str | None = None, **options: Any) -> Socket:
            url = f"ws://127.0.0.1:{server.port}/threads/{thread_id or uuid4()}/stream/events"
            return Socket(stack.enter_context(connect(url, proxy=None, **options)))

        yield dial


Dial = Callable[..., Socket]


def shown(events: list[Any]) -> list[tuple[str, Any]]:
    return [
        (each["method"], each["params"]["data"].get("event", each["params"]["data"].get("log")))
        for each in events
    ]


def test_subscribe__and_start(dial: Dial, course: Course) -> None:
    thread_id = str(uuid4())
    socket = dial(thread_id)
    subscribed = socket.subscribe("values", "lifecycle")
    assert subscribed["type"] == "success"
    assert subscribed["result"]["replayed_events"] == 0
    assert subscribed["meta"] == {"applied_through_seq": 0}

    started = socket.ask("run.start", assistant_id="steps", input=course.input())
    assert started["result"]["run_id"]
    events = socket.events(6)

    assert shown(events) == [
        ("lifecycle", "running"),
        ("values", []),
        ("values", ["one"]),
        ("values", ["one", "two"]),
        ("values", ["one", "two", "three"]),
        ("lifecycle", "completed"),
    ]
    seqs = [each["seq"] for each in events]
    assert seqs == sorted(set(seqs))
    # What is over, whoever has been told of it.
    assert dial(thread_id).ask("agent.getTree")["meta"]["applied_through_seq"] >= seqs[-1]


def test_subscribe__says_how_much_it_replays(dial: Dial, course: Course) -> None:
    thread_id = str(uuid4())
    first = dial(thread_id)
    first.subscribe("values", "lifecycle")
    first.ask("run.start", assistant_id="steps", input=course.input())
    events = first.events(6)
    # What ended a moment ago may still have something to say: it counts as going on.
    wait_until_over(dial, thread_id)

    second = dial(thread_id)
    subscribed = second.subscribe("values", since=events[2]["seq"])
    again = second.events(2)
    reconnected = second.ask(
        "subscription.reconnect", channels=["lifecycle"], run_id="x", since=events[2]["seq"]
    )

    assert subscribed["result"]["replayed_events"] == 2
    assert [each["event_id"] for each in again] == [each["event_id"] for each in events[3:5]]
    assert reconnected["result"]["restored"] is True
    assert reconnected["result"]["missed_events"] == 1
    assert shown(second.events(1)) == [("lifecycle", "completed")]


def test_subscribe__at_once(dial: Dial, course: Course) -> None:
    """What the subscriptions replay, and what comes then, has one order: a client may stop at the end of a run."""
    thread_id = str(uuid4())
    first = dial(thread_id)
    first.subscribe()
    first.ask("run.start", assistant_id="steps", input=course.input())
    while first.events(1)[0]["params"]["data"].get("event") != "completed":
        pass

    socket = dial(thread_id)
    for n, channels in enumerate((["lifecycle", "input"], ["values"], ["updates", "tasks"]), 101):
        params = {"channels": channels}
        socket.send({"id": n, "method": "subscription.subscribe", "params": params})
    replayed = events_until(socket, "completed")
    params = {"assistant_id": "steps", "input": course.input()}
    socket.send({"id": 104, "method": "run.start", "params": params})
    live = events_until(socket, "completed")

    for events in (replayed, live):
        assert {each["method"] for each in events} == {"lifecycle", "values", "updates", "tasks"}
        assert events[-1]["method"] == "lifecycle"
    seqs = [each["seq"] for each in replayed + live]
    assert seqs == sorted(seqs)


def events_until(socket: Socket, last: str) -> list[Any]:
    """All events up to an event of the lifecycle, between whatever is answered."""
    events: list[Any] = []
    while not events or events[-1]["params"]["data"].get("event") != last:
        if (frame := socket.take())["type"] == "event":
            events.append(frame)
    return events


def wait_until_over(dial: Dial, thread_id: str) -> None:
    """Until the server counts the thread's run among those that are over."""
    socket = dial(thread_id)

    def is_over() -> bool:
        subscribed = socket.subscribe("lifecycle")["result"]
        socket.events(2)
        socket.ask("subscription.unsubscribe", subscription_id=subscribed["subscription_id"])
        return bool(subscribed["replayed_events"])

    wait_for(is_over, what="the run to be over for some time")


@pytest.mark.parametrize("mode", ["values", "custom", "updates"])
def test_a_run_of_the_older_routes__waits_at_a_node(
    server: System, dial: Dial, thread_id: str, mode: str
) -> None:
    client = dial(thread_id)
    client.subscribe("lifecycle")
    body = {
        "assistant_id": "compiled",
        "input": {"said": ["hi"]},
        "interrupt_before": ["say"],
        "stream_mode": [mode],
    }
    server.post(f"/threads/{thread_id}/runs/wait", body)

    assert shown(client.events(2)) == [("lifecycle", "running"), ("lifecycle", "interrupted")]


def test_unsubscribe(dial: Dial, course: Course) -> None:
    socket = dial()
    everything = socket.subscribe()["result"]["subscription_id"]
    socket.subscribe("lifecycle")
    assert socket.ask("subscription.unsubscribe", subscription_id=everything)["result"] == {}
    socket.ask("run.start", assistant_id="steps", input=course.input())

    assert shown(socket.events(2)) == [("lifecycle", "running"), ("lifecycle", "completed")]
    gone = socket.ask("subscription.unsubscribe", subscription_id=everything)
    assert (gone["error"], gone["message"]) == (
        "no_such_subscription",
        f"Unknown subscription: {everything}",
    )


@pytest.mark.parametrize(
    ("frame", "command_id", "code", "message"),
    [
        ("{bad", None, "invalid_argument", "Protocol commands must be valid JSON."),
        ("", None, "invalid_argument", "Protocol commands must be valid JSON."),
        ('{"channels":["values"]}', None, "invalid_argument", BAD_ENVELOPE),
        ("[]", None, "invalid_argument", BAD_ENVELOPE),
        ('{"id":true,"method":"run.start"}', None, "invalid_argument", BAD_ENVELOPE),
        ('{"id":1,"method":"bogus"}', 1, "unknown_command", "Unknown protocol command: bogus"),
        (
            '{"id":6,"method":"subscription.reconnect","params":{"run_id":"x"}}',
            6,
            "invalid_argument",
            "subscription.reconnect requires a non-empty channels array.",
        ),
        (
            '{"id":5,"method":"subscription.reconnect","params":{"channels":["values"],"last_event_id":"1-0"}}',
            5,
            "invalid_argument",
            "last_event_id says no order. Send since, the seq of the last event.",
        ),
        (
            '{"id":7,"method":"subscription.subscribe"}',
            7,
            "invalid_argument",
            "channels is required and must be a non-empty array",
        ),
        (
            '{"id":8,"method":"subscription.subscribe","params":[]}',
            8,
            "invalid_argument",
            "channels is required and must be a non-empty array",
        ),
        (
            '{"id":9,"method":"subscription.unsubscribe","params":["x"]}',
            9,
            "no_such_subscription",
            "Unknown subscription: None",
        ),
    ],
)
def test_bad_frame(dial: Dial, frame: str, command_id: int | None, code: str, message: str) -> None:
    socket = dial()
    socket.send(frame)

    answer = socket.take()

    assert (answer["type"], answer["id"], answer["error"]) == ("error", command_id, code)
    assert answer["message"].startswith(message)
    assert socket.subscribe("values")["type"] == "success"


@pytest.mark.parametrize(
    "frame",
    [
        '{"id":1,"method":"run.start","params":' + "[" * 300 + "]" * 300 + "}",
        '{"id":1,"method":"run.start","params":{"a":"\\u0000"}}',
        '{"id":1,"method":"run.start","params":{"a":"\\ud800"}}',
        '{"id":1,"method":"run.start","params":{"a":NaN}}',
    ],
    ids=["deep", "nul", "surrogate", "nan"],
)
def test_bad_frame__no_json_of_ours(dial: Dial, frame: str) -> None:
    socket = dial()
    socket.send(frame)

    answer = socket.take()

    assert (answer["type"], answer["error"]) == ("error", "invalid_argument")
    assert answer["message"].startswith("Protocol commands must be valid JSON.")


def test_too_many_subscriptions(dial: Dial) -> None:
    socket = dial()
    for _ in range(100):
        assert socket.subscribe("values")["type"] == "success"

    assert "at most" in socket.subscribe("values")["message"]


def test_closed__not_a_thread(dial: Dial) -> None:
    socket = dial("x")

    with pytest.raises(ConnectionClosed) as closed:
        socket.take()

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
        4422,
        "Invalid thread ID: must be a UUID",
    )


def test_refused__another_path(server: System) -> None:
    with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{server.port}/threads"):
        pass


def test_closed__the_server_ends(new_system: Callable[..., System]) -> None:
    with running(new_system()) as system:
        web = system.start_web()
        url = f"ws://127.0.0.1:{system.port}/threads/{uuid4()}/stream/events"
        with connect(url, proxy=None) as connection:
            socket = Socket(connection)
            socket.subscribe("values")
            web.terminate()
            told = socket.take()
            with pytest.raises(ConnectionClosed) as closed:
                socket.take()
        assert web.ends() == 0

    assert (told["type"], told["id"], told["message"]) == (
        "error",
        None,
        "The server is shutting down",
    )
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
