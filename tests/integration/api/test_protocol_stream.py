"""The events of protocol v2 as server-sent events. A double of the worker writes what a worker writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from integration.api.doubles import Listener, Worker
from integration.api.protocol import START, Send, Sql, send
from trellis.api.commands import FRAME
from trellis.db import runs
from trellis.domain.http import Cors
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim, RunStatus
from trellis.errors import Unavailable

Run = dict[str, Any]
Listen = Callable[..., Listener]
ALL = ["values", "updates", "messages", "tools", "lifecycle", "input", "tasks", "custom"]

__all__ = ["send"]


@pytest.fixture
def begin(new_run: Callable[..., Run], worker: Worker) -> Callable[..., Claim]:
    """A run that has begun, and said something."""

    def begin(*events: tuple[str, Any]) -> Claim:
        claim = worker.claim(new_run()["run_id"])
        for name, data in events:
            worker.send(claim, name, data)
        return claim

    return begin


@pytest.fixture
def play(begin: Callable[..., Claim], worker: Worker) -> Callable[..., str]:
    """A run from its start to its end."""

    def play(*events: tuple[str, Any]) -> str:
        claim = begin(*events)
        worker.end(claim, {"n": 9})
        return claim.run_id

    return play


@pytest.fixture
def open_stream(listen: Listen, thread_id: str) -> Callable[..., Listener]:
    def open_stream(*channels: str, **fields: Any) -> Listener:
        body = {"channels": list(channels) or ALL, **fields}
        return listen(f"/threads/{thread_id}/stream/events", body)

    return open_stream


def told(client: Listener, count: int) -> list[dict[str, Any]]:
    """So many events of the protocol."""
    events = client.wait_for(count)
    assert [(name, event_id) for name, _, event_id in events] == [
        (data["method"], str(data["seq"])) for _, data, _ in events
    ]
    return [data for _, data, _ in events]


def shown(events: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Method, and what is special about each."""
    return [
        (each["method"], each["params"]["data"].get("event", each["params"]["data"]))
        for each in events
    ]


def seqs(events: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(each["seq"], each["event_id"]) for each in events]


def test_events__of_every_run(
    open_stream: Callable[..., Listener], play: Callable[..., str]
) -> None:
    client = open_stream()
    first = play(("values", {"n": 1}), ("custom", {"a": 1}))
    play(("updates", {"one": {"n": 2}}))

    events = told(client, 7)
    assert client.response.status_code == 200
    assert client.response.content_type == "text/event-stream; charset=utf-8"
    assert shown(events) == [
        ("lifecycle", "running"),
        ("values", {"n": 1}),
        ("custom", {"a": 1}),
        ("lifecycle", "completed"),
        ("lifecycle", "running"),
        ("updates", {"one": {"n": 2}}),
        ("lifecycle", "completed"),
    ]
    assert events[0]["event_id"] == f"synth:{first}:lc||running"
    seqs = [each["seq"] for each in events]
    assert seqs == sorted(set(seqs))
    assert len({each["event_id"] for each in events}) == len(events)


def test_events__before_there_is_a_thread(
    listen: Listen, new_run: Callable[..., Run], worker: Worker
) -> None:
    thread_id = new_id()
    client = listen(f"/threads/{thread_id}/stream/events", {"channels": ["lifecycle"]})
    client.wait_until(lambda: b": heartbeat" in client.heard)
    run = new_run(f"/threads/{thread_id}/runs", if_not_exists="create")
    worker.end(worker.claim(run["run_id"]), {})

    assert shown(told(client, 2)) == [("lifecycle", "running"), ("lifecycle", "completed")]


def test_events__are_the_same_for_whoever_comes_later(
    open_stream: Callable[..., Listener], play: Callable[..., str]
) -> None:
    client = open_stream()
    play(("values", {"n": 1}), ("messages", [{"type": "ai", "id": "m", "content": "hi"}, {}]))
    play(("values", {"n": 2}))
    live = told(client, 11)

    assert told(open_stream(since=0), 11) == live


def test_events__after_each_of_them(
    open_stream: Callable[..., Listener], play: Callable[..., str]
) -> None:
    play(("values", {"n": 1}), ("messages", [{"type": "ai", "id": "m", "content": "hi"}, {}]))
    play(("values", {"n": 2}))
    whole = [each["event_id"] for each in told(open_stream(), 11)]
    seqs = [each["seq"] for each in told(open_stream(), 11)]

    for seen, seq in enumerate(seqs, 1):
        rest = open_stream(since=seq)
        assert [each["event_id"] for each in told(rest, 11 - seen)] == whole[seen:]
        rest.wait_until(lambda rest=rest: b": heartbeat" in rest.heard)
        assert len(rest.events) == 11 - seen


def through(answer: Any) -> int:
    seq = answer["meta"]["applied_through_seq"]
    assert isinstance(seq, int)
    return seq


def test_events__a_command_says_what_is_old(
    open_stream: Callable[..., Listener], play: Callable[..., str], send: Send, worker: Worker
) -> None:
    play(("values", {"n": 1}))
    play(("values", {"n": 2}))

    answer = send("run.start", START)
    worker.end(worker.claim(answer["result"]["run_id"]), {})

    seqs = [each["seq"] for each in told(open_stream(), 8)]
    assert seqs[5] <= through(answer) < seqs[6]
    # Where the client of the SDK goes on.
    assert [each["seq"] for each in told(open_stream(since=through(answer)), 2)] == seqs[6:]


def test_events__what_goes_on_is_not_old_for_a_command(
    open_stream: Callable[..., Listener],
    play: Callable[..., str],
    begin: Callable[..., Claim],
    send: Send,
    worker: Worker,
) -> None:
    assert through(send("state.get")) == 0
    play()
    claim = begin(("values", {"n": 1}))

    answer = send("run.start", {**START, "multitask_strategy": "enqueue"})
    worker.end(claim, {})

    seqs = [each["seq"] for each in told(open_stream(), 5)]
    assert seqs[1] <= through(answer) < seqs[2]
    assert through(send("state.get")) >= seqs[4]


def test_events__nothing_is_old_for_a_command_that_was_sent_before(
    client: FlaskClient, open_stream: Callable[..., Listener], thread_id: str, worker: Worker
) -> None:
    sent = {"id": 1, "method": "run.start", "params": START}

    def start() -> Any:
        path = f"/threads/{thread_id}/commands"
        return client.post(path, json=sent, headers={"Idempotency-Key": "again"}).get_json()

    first = start()
    worker.end(worker.claim(first["result"]["run_id"]), {})

    assert start() == first
    assert through(first) == 0


def test_events__goes_over_to_what_happens_now(
    open_stream: Callable[..., Listener], begin: Callable[..., Claim], worker: Worker
) -> None:
    claim = begin(("values", {"n": 1}))
    client = open_stream("values", "lifecycle")
    told(client, 2)
    worker.send(claim, "values", {"n": 2})
    worker.end(claim, {"n": 2})

    assert shown(told(client, 4))[2:] == [("values", {"n": 2}), ("lifecycle", "completed")]


def test_events__only_what_was_asked_for(
    open_stream: Callable[..., Listener], play: Callable[..., str]
) -> None:
    values = open_stream("values")
    custom = open_stream("custom:a", "lifecycle", namespaces=[["child"]])
    root = open_stream("values", namespaces=[[]], depth=0)
    play(
        ("values", {"n": 1}),
        ("values|child:1", {"n": 2}),
        ("custom|child:1", {"name": "a"}),
        ("custom|child:1|deep:2", {"name": "b"}),
        ("custom", {"name": "a"}),
        ("values", {"n": 3}),
    )

    assert shown(told(values, 3)) == [("values", {"n": n}) for n in (1, 2, 3)]
    assert shown(told(root, 2)) == [("values", {"n": n}) for n in (1, 3)]
    assert shown(told(custom, 1)) == [("custom", {"name": "a"})]
    assert told(custom, 1)[0]["params"]["namespace"] == ["child:1"]


def test_events__redis_forgot_everything(
    open_stream: Callable[..., Listener],
    begin: Callable[..., Claim],
    worker: Worker,
    thread_id: str,
    run_graph: Callable[[str, str, str], None],
) -> None:
    claim = begin(("updates", {"n": 1}))
    live = open_stream("lifecycle", "values")
    told(live, 1)
    run_graph("echo", thread_id, "hi")
    worker.rt.redis.flushdb()
    worker.finish(claim)
    late = open_stream("lifecycle", "values", since=told(live, 1)[0]["seq"])

    expected = [("values", {"value": "hi", "log": ["HI"]}), ("lifecycle", "completed")]
    assert shown(told(live, 3))[1:] == expected
    assert shown(told(late, 2)) == expected


@pytest.fixture
def long_ago(sql: Sql) -> Callable[[], None]:
    """All that has ended, ended so long ago that no log of it is kept."""
    return lambda: sql("UPDATE run SET ended_at = ended_at - interval '1 hour'")


def test_events__runs_that_nobody_can_tell_of_any_more(
    open_stream: Callable[..., Listener],
    play: Callable[..., str],
    thread_id: str,
    run_graph: Callable[[str, str, str], None],
    worker: Worker,
    long_ago: Callable[[], None],
) -> None:
    """For one who has had the first of three: the end of the last, with the state, stands for all of them."""
    play(("values", {"n": 1}))
    seen = told(open_stream("lifecycle", "values"), 3)
    play(("values", {"n": 2}))
    last = play(("values", {"n": 3}))
    run_graph("echo", thread_id, "hi")
    worker.rt.redis.flushdb()
    long_ago()

    client = open_stream("lifecycle", "values", since=seen[-1]["seq"])
    fresh = open_stream("lifecycle", "values")
    later = play()

    state = ("values", {"value": "hi", "log": ["HI"]})
    events = told(client, 5)
    assert shown(events)[:3] == [("lifecycle", "running"), state, ("lifecycle", "completed")]
    assert events[2]["event_id"] == f"synth:{last}:lc||completed"
    assert [each["event_id"] for each in told(fresh, 2)] == [
        f"synth:{later}:lc||running",
        f"synth:{later}:lc||completed",
    ]


def test_events__a_gap_before_a_run_that_can_be_told(
    open_stream: Callable[..., Listener],
    play: Callable[..., str],
    thread_id: str,
    run_graph: Callable[[str, str, str], None],
    long_ago: Callable[[], None],
) -> None:
    play(("values", {"n": 1}))
    seen = told(open_stream("lifecycle", "values"), 3)
    play(("values", {"n": 2}))
    run_graph("echo", thread_id, "hi")
    long_ago()
    play(("values", {"n": 3}))

    events = told(open_stream("values", since=seen[-1]["seq"]), 2)

    assert shown(events) == [("values", {"value": "hi", "log": ["HI"]}), ("values", {"n": 3})]


def test_events__more_runs_than_are_replayed(
    open_stream: Callable[..., Listener],
    play: Callable[..., str],
    thread_id: str,
    run_graph: Callable[[str, str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trellis.services.feeds._NEWEST", 2)
    play(("values", {"n": 1}))
    seen = told(open_stream("lifecycle", "values"), 3)
    run_graph("echo", thread_id, "hi")
    for n in (2, 3, 4):
        play(("values", {"n": n}))

    events = told(open_stream("values", since=seen[-1]["seq"]), 3)

    state = {"value": "hi", "log": ["HI"]}
    assert shown(events) == [("values", each) for each in (state, {"n": 3}, {"n": 4})]


def test_events__the_start_of_the_log_was_trimmed(
    open_stream: Callable[..., Listener],
    begin: Callable[..., Claim],
    worker: Worker,
    thread_id: str,
    run_graph: Callable[[str, str, str], None],
) -> None:
    run_graph("echo", thread_id, "hi")
    claim = begin(("values", {"n": 1}), ("updates", {"n": 2}))
    worker.rt.redis.xtrim(f"s:{claim.run_id}", maxlen=1, approximate=False)

    client = open_stream("values", "updates")

    events = told(client, 2)
    assert shown(events) == [("values", {"value": "hi", "log": ["HI"]}), ("updates", {"n": 2})]
    assert events[0]["seq"] < events[1]["seq"]


@pytest.mark.parametrize(
    ("status", "shows"),
    [
        (RunStatus.INTERRUPTED, "interrupted"),
        (RunStatus.ERROR, "failed"),
        (RunStatus.TIMEOUT, "failed"),
    ],
)
def test_events__a_run_that_does_not_succeed(
    open_stream: Callable[..., Listener],
    begin: Callable[..., Claim],
    worker: Worker,
    status: RunStatus,
    shows: str,
) -> None:
    client = open_stream("lifecycle")
    worker.end(begin(), None, status)

    assert shown(told(client, 2)) == [("lifecycle", "running"), ("lifecycle", shows)]


@pytest.fixture
def cancel(client: FlaskClient, thread_id: str) -> Callable[..., None]:
    """Cancel a run of the thread."""

    def cancel(run_id: str, action: str = "interrupt") -> None:
        path = f"/threads/{thread_id}/runs/{run_id}/cancel?action={action}"
        assert client.post(path).status_code in (202, 204)

    return cancel


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_events__a_run_that_is_cancelled_before_it_begins(
    open_stream: Callable[..., Listener],
    new_run: Callable[..., Run],
    play: Callable[..., str],
    cancel: Callable[..., None],
    action: str,
) -> None:
    client = open_stream("lifecycle")
    never = new_run()["run_id"]
    cancel(never, action)
    later = play()

    events = told(client, 4)
    assert [each["event_id"] for each in events] == [
        f"synth:{never}:lc||running",
        f"synth:{never}:lc||interrupted",
        f"synth:{later}:lc||running",
        f"synth:{later}:lc||completed",
    ]


def test_events__a_run_that_is_cancelled_behind_another_one(
    open_stream: Callable[..., Listener],
    begin: Callable[..., Claim],
    new_run: Callable[..., Run],
    cancel: Callable[..., None],
    worker: Worker,
    send: Send,
) -> None:
    """What runs goes on, and its end comes first: clients do not tell runs apart."""
    client = open_stream("lifecycle", "values")
    claim = begin(("values", {"n": 1}))
    cancel(new_run()["run_id"])
    client.wait_until(lambda: client.heard.count(b": heartbeat") > 2)
    late = open_stream("lifecycle", "values")
    through = send("agent.getTree")["meta"]["applied_through_seq"]
    worker.send(claim, "values", {"n": 2})
    worker.end(claim, {"n": 2})

    expected = [
        *[("lifecycle", "running"), ("values", {"n": 1}), ("values", {"n": 2})],
        *[("lifecycle", "completed"), ("lifecycle", "running"), ("lifecycle", "interrupted")],
    ]
    assert shown(told(client, 6)) == expected
    assert seqs(told(late, 6)) == seqs(told(client, 6))
    assert through < told(client, 6)[0]["seq"]


def test_events__a_cancelled_run_for_whoever_comes_later(
    open_stream: Callable[..., Listener],
    new_run: Callable[..., Run],
    cancel: Callable[..., None],
    sql: Sql,
) -> None:
    live = open_stream("lifecycle")
    never = new_run()["run_id"]
    cancel(never)
    events = told(live, 2)
    sql("UPDATE run SET ended_at = ended_at - interval '3 seconds' WHERE run_id = :r", r=never)

    late = open_stream("lifecycle")
    after = open_stream("lifecycle", since=events[0]["seq"])

    assert seqs(told(late, 2)) == seqs(events)
    assert told(after, 1)[0]["seq"] == events[1]["seq"]


def test_events__a_run_that_is_cancelled_between_two_attempts(
    open_stream: Callable[..., Listener],
    begin: Callable[..., Claim],
    cancel: Callable[..., None],
    play: Callable[..., str],
    worker: Worker,
) -> None:
    client = open_stream("lifecycle")
    lost = begin()
    told(client, 1)
    with worker.rt.engine.begin() as tx:
        runs.release(tx, [lost])
    cancel(lost.run_id)
    play()

    events = told(client, 4)
    assert shown(events) == [
        *[("lifecycle", "running"), ("lifecycle", "interrupted")],
        *[("lifecycle", "running"), ("lifecycle", "completed")],
    ]


def test_events__a_run_that_waits_at_a_node__redis_forgot_everything(
    open_stream: Callable[..., Listener], begin: Callable[..., Claim], worker: Worker, sql: Sql
) -> None:
    client = open_stream("lifecycle")
    claim = begin()
    told(client, 1)
    worker.rt.redis.flushdb()
    sql("UPDATE thread SET status = 'interrupted'")
    worker.finish(claim)

    assert shown(told(client, 2))[1:] == [("lifecycle", "interrupted")]


def test_events__a_run_that_is_given_up(
    open_stream: Callable[..., Listener], begin: Callable[..., Claim], worker: Worker, sql: Sql
) -> None:
    client = open_stream("lifecycle")
    claim = begin()
    told(client, 1)
    sql("UPDATE run SET crashes = 9, lease_expires_at = now() - interval '1 minute'")
    with worker.rt.engine.begin() as tx:
        runs.rescue(tx, claim.run_id, claim.thread_id, backoff_seconds=0)

    end = told(client, 2)[1]["params"]["data"]
    assert end["event"] == "failed"
    assert end["error"] == sql("SELECT error ->> 'message' FROM run")


def test_events__the_process_ends(
    open_stream: Callable[..., Listener], on_loop: Callable[..., Any], worker: Worker
) -> None:
    client = open_stream()
    client.wait_until(lambda: b": heartbeat" in client.heard)
    assert worker.rt.reader is not None
    on_loop(worker.rt.reader.close())

    client.wait_until(lambda: client.failure is not None)
    assert isinstance(client.failure, Unavailable)
    assert client.heard.endswith(b"retry: 200\r\n\r\n")


def test_socket__hears_how_far_it_has_been_told(
    listen: Listen,
    open_stream: Callable[..., Listener],
    play: Callable[..., str],
    send: Send,
    sql: Sql,
    thread_id: str,
) -> None:
    """Other subscriptions of the connection wait for it, also where there is nothing for this one."""
    play(("values", {"n": 1}))
    sql("UPDATE run SET ended_at = ended_at - interval '1 day' WHERE thread_id = :t", t=thread_id)
    path = f"/threads/{thread_id}/stream/events"
    client = listen(path, {"channels": ["custom"]}, is_frame=True)

    def numbers() -> list[int]:
        return [int(line) for line in client.heard.splitlines()]

    client.wait_until(lambda: numbers() == [through(send("state.get"))])
    everything = open_stream()
    play(("values", {"n": 2}))
    last = told(everything, 3)[-1]["seq"]

    client.wait_until(lambda: numbers()[-1] >= last)
    assert numbers() == sorted(numbers())


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{bad", "Invalid JSON body"),
        (b"", "Invalid JSON body"),
        (b"[]", "The body must be an object with the channels to subscribe to"),
        (b"{}", "channels is required and must be a non-empty array"),
        (b'{"channels":["values"],"depth":-1}', "depth must be a whole number, 0 or more, not -1"),
        (
            b'{"channels":["values"],"since":"x"}',
            "since must be a whole number, 0 or more, not x",
        ),
        (
            b'{"channels":["values"],"last_event_id":"1700-0"}',
            "last_event_id says no order. Send since, the seq of the last event.",
        ),
    ],
)
def test_events__bad_body(client: FlaskClient, thread_id: str, body: bytes, detail: str) -> None:
    answer = client.post(f"/threads/{thread_id}/stream/events", data=body)

    assert (answer.status_code, answer.get_json()) == (400, {"detail": detail})


def test_events__with_another_method(client: FlaskClient, thread_id: str) -> None:
    answer = client.get(f"/threads/{thread_id}/stream/events")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "OPTIONS, POST")


def test_events__not_a_uuid(client: FlaskClient) -> None:
    answer = client.post("/threads/x/stream/events", json={"channels": ["values"]})

    assert (answer.status_code, answer.get_json()) == (
        422,
        {"detail": "Invalid thread ID: must be a UUID"},
    )


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.example", 403), ("https://ours.example", 400), ("http://localhost", 400)],
)
def test_socket__of_a_page_of_another_site(
    client: FlaskClient, worker: Worker, thread_id: str, origin: str, status: int
) -> None:
    rules = Cors(allow_origins=("https://ours.example",))
    worker.rt.manifest = replace(
        worker.rt.manifest, http=replace(worker.rt.manifest.http, cors=rules)
    )

    answer = client.post(
        f"/threads/{thread_id}/stream/events",
        json={},
        headers={"Origin": origin},
        environ_overrides={FRAME: True},
    )

    assert answer.status_code == status
