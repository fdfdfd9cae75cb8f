"""The stream of a thread. A double of the worker writes what a worker writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from integration.api.doubles import Event, Listener, Worker
from trellis.db import runs
from trellis.db.engine import Tx
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim, RunStatus
from trellis.errors import Unavailable

Run = dict[str, Any]
Listen = Callable[..., Listener]


@pytest.fixture
def play(new_run: Callable[..., Run], worker: Worker) -> Callable[..., Run]:
    """A run from its start to its end."""

    def play(*events: str, **fields: Any) -> Run:
        run = new_run(**fields)
        claim = worker.claim(run["run_id"])
        for event in events:
            worker.send(claim, event, {"n": 1})
        worker.end(claim, {"n": 1})
        return run

    return play


def begun(run: Run, attempt: int = 1) -> tuple[str, Any]:
    return ("metadata", {"run_id": run["run_id"], "attempt": attempt})


def done(run: Run) -> tuple[str, Any]:
    return ("metadata", {"status": "run_done", "run_id": run["run_id"]})


def shown(events: list[Event]) -> list[tuple[str, Any]]:
    return [(name, data) for name, data, _ in events]


def ids(events: list[Event]) -> list[tuple[int, ...]]:
    return [tuple(map(int, str(event_id).split("-"))) for _, _, event_id in events]


def test_follow__every_run_in_order(
    thread_id: str, listen: Listen, play: Callable[..., Run]
) -> None:
    play("values")
    client = listen(f"/threads/{thread_id}/stream")
    first = play("values", "custom")
    second = play("updates")

    events = client.wait_for(7)
    assert client.response.status_code == 200
    assert client.response.content_type == "text/event-stream; charset=utf-8"
    assert shown(events) == [
        begun(first),
        ("values", {"n": 1}),
        ("custom", {"n": 1}),
        done(first),
        begun(second),
        ("updates", {"n": 1}),
        done(second),
    ]
    assert ids(events) == sorted(set(ids(events)))


def test_follow__a_run_that_is_under_way_is_told_of_from_now_on(
    thread_id: str, listen: Listen, new_run: Callable[..., Run], worker: Worker
) -> None:
    run = new_run()
    claim = worker.claim(run["run_id"])
    worker.send(claim, "values", {"n": 1})
    client = listen(f"/threads/{thread_id}/stream")
    client.wait_until(lambda: b": heartbeat" in client.heard)
    worker.send(claim, "values", {"n": 2})
    worker.end(claim, {"n": 2})

    assert shown(client.wait_for(2)) == [("values", {"n": 2}), done(run)]


def test_follow__beats_while_nothing_runs(thread_id: str, listen: Listen) -> None:
    client = listen(f"/threads/{thread_id}/stream")

    client.wait_until(lambda: client.heard.count(b": heartbeat\r\n\r\n") >= 2)


@pytest.mark.parametrize(
    "query",
    ["stream_mode=lifecycle", "stream_modes=lifecycle", "stream_mode=%5B%22lifecycle%22%5D"],
)
def test_follow__only_starts_and_ends(
    thread_id: str, listen: Listen, play: Callable[..., Run], query: str
) -> None:
    client = listen(f"/threads/{thread_id}/stream?{query}")
    first, second = play("values"), play("custom")

    assert shown(client.wait_for(4)) == [begun(first), done(first), begun(second), done(second)]


@pytest.mark.parametrize(
    "query",
    [
        "stream_mode=lifecycle&stream_mode=run_modes",
        "stream_mode=lifecycle,run_modes",
        "stream_modes=run_modes&stream_mode=lifecycle",
        "stream_mode=",
    ],
)
def test_follow__several_modes_or_none(
    thread_id: str, listen: Listen, play: Callable[..., Run], query: str
) -> None:
    client = listen(f"/threads/{thread_id}/stream?{query}")
    run = play("values")

    assert shown(client.wait_for(3)) == [begun(run), ("values", {"n": 1}), done(run)]


def test_follow__unknown_mode(client: FlaskClient, thread_id: str) -> None:
    answer = client.get(f"/threads/{thread_id}/stream?stream_mode=values")

    assert answer.status_code == 422
    assert "lifecycle" in answer.get_json()["detail"]


def test_follow__the_state_whenever_it_has_changed(
    client: FlaskClient,
    thread_id: str,
    listen: Listen,
    play: Callable[..., Run],
    run_graph: Callable[[str, str, str], None],
) -> None:
    stream = listen(f"/threads/{thread_id}/stream?stream_mode=state_update")
    run_graph("echo", thread_id, "hi")
    play("values")
    first = stream.wait_for(1)
    change = {"values": {"value": "by hand"}, "as_node": "shout"}
    assert client.post(f"/threads/{thread_id}/state", json=change).status_code == 200
    both = stream.wait_for(2)
    again = listen(
        f"/threads/{thread_id}/stream?stream_mode=state_update", Last_Event_ID=str(first[0][2])
    )

    assert [name for name, _, _ in both] == ["state_update", "state_update"]
    assert [data["value"] for _, data, _ in both] == ["hi", "by hand"]
    assert again.wait_for(1) == both[1:]


# Coming back


def test_follow__replay_after_every_event(
    thread_id: str, listen: Listen, play: Callable[..., Run]
) -> None:
    play("values", "custom")
    play("updates")
    whole = listen(f"/threads/{thread_id}/stream", Last_Event_ID="0").wait_for(7)

    for seen, (_, _, event_id) in enumerate(whole, 1):
        rest = listen(f"/threads/{thread_id}/stream", Last_Event_ID=str(event_id))
        assert rest.wait_for(7 - seen) == whole[seen:]
        rest.wait_until(lambda rest=rest: b": heartbeat" in rest.heard)
        assert rest.events == whole[seen:]


@pytest.mark.parametrize("start", ["0", "0-0", "-"])
def test_follow__from_the_start(
    thread_id: str, listen: Listen, play: Callable[..., Run], start: str
) -> None:
    run = play("values")
    client = listen(f"/threads/{thread_id}/stream", Last_Event_ID=start)

    assert shown(client.wait_for(3)) == [begun(run), ("values", {"n": 1}), done(run)]

    later = play("custom")
    assert shown(client.wait_for(6))[3:] == [begun(later), ("custom", {"n": 1}), done(later)]


def test_follow__replay_goes_over_to_what_happens_now(
    thread_id: str, listen: Listen, new_run: Callable[..., Run], worker: Worker
) -> None:
    run = new_run()
    claim = worker.claim(run["run_id"])
    worker.send(claim, "values", {"n": 1})
    client = listen(f"/threads/{thread_id}/stream", Last_Event_ID="0")
    client.wait_for(2)
    worker.send(claim, "values", {"n": 2})
    worker.end(claim, {"n": 2})

    events = client.wait_for(4)
    assert shown(events) == [begun(run), ("values", {"n": 1}), ("values", {"n": 2}), done(run)]


def test_follow__an_id_of_another_thread_means_from_now_on(
    thread_id: str, listen: Listen, play: Callable[..., Run]
) -> None:
    play("values")
    client = listen(f"/threads/{thread_id}/stream", Last_Event_ID="1795342132047-0")
    run = play("custom")

    assert shown(client.wait_for(3)) == [begun(run), ("custom", {"n": 1}), done(run)]


@pytest.mark.parametrize("bad", ["-1", "x", "1-", "1-2-3", "1" * 21, "\u0661"])
def test_follow__bad_id(client: FlaskClient, thread_id: str, bad: str) -> None:
    headers = {"Last-Event-ID": bad.encode().decode("latin1")}
    answer = client.get(f"/threads/{thread_id}/stream", headers=headers)

    assert answer.status_code == 422
    assert answer.get_json() == {"detail": "Invalid last-event-id: must be a valid Redis stream ID"}


# Threads that are not there


def test_follow__a_thread_that_is_made_later(
    client: FlaskClient, listen: Listen, new_run: Callable[..., Run], worker: Worker
) -> None:
    later = new_id()
    stream = listen(f"/threads/{later}/stream")
    stream.wait_until(lambda: b": heartbeat" in stream.heard)
    run = new_run(f"/threads/{later}/runs", if_not_exists="create")
    worker.end(worker.claim(run["run_id"]), {})

    assert shown(stream.wait_for(2)) == [begun(run), done(run)]


def test_follow__a_thread_made_anew_counts_from_the_start(
    client: FlaskClient, thread_id: str, listen: Listen, play: Callable[..., Run]
) -> None:
    play("values"), play("values")
    client.delete(f"/threads/{thread_id}")
    client.post("/threads", json={"thread_id": thread_id})
    stream = listen(f"/threads/{thread_id}/stream")
    run = play("values")

    assert shown(stream.wait_for(3)) == [begun(run), ("values", {"n": 1}), done(run)]


@pytest.mark.parametrize("before", [0, 1])
def test_follow__a_later_end_is_heard_of_before_a_run_says_that_it_has_begun(
    client: FlaskClient,
    thread_id: str,
    listen: Listen,
    new_run: Callable[..., Run],
    play: Callable[..., Run],
    worker: Worker,
    before: int,
) -> None:
    """Between the commit of a claim and the first event of its run another run is cancelled: it is counted behind it."""
    for _ in range(before):
        play("values")
    thread = f"/threads/{thread_id}"
    streams = listen(f"{thread}/stream"), listen(f"{thread}/stream", Last_Event_ID="0")
    protocol = listen(f"{thread}/stream/events", {"channels": ["lifecycle"]})
    slow, cancelled = new_run(), new_run(multitask_strategy="enqueue")
    claim = worker.claim_silently(slow["run_id"])
    client.post(f"{thread}/runs/{cancelled['run_id']}/cancel")
    worker.begin(claim)
    worker.end(claim, {})

    expected = [begun(slow), done(slow), done(cancelled)]
    for stream in streams:
        stream.wait_until(lambda s=stream: done(cancelled) in shown(s.events))
        assert shown(stream.events)[-3:] == expected
    told = [data for _, data, _ in protocol.wait_for(2 * before + 4)]
    assert [each["seq"] for each in told] == sorted({each["seq"] for each in told})
    assert [each["params"]["data"]["event"] for each in told[-4:]] == [
        *("running", "completed"),
        *("running", "interrupted"),
    ]


def test_follow__not_a_uuid(client: FlaskClient) -> None:
    answer = client.get("/threads/x/stream")

    assert (answer.status_code, answer.get_json()) == (
        422,
        {"detail": "Invalid thread ID: must be a UUID"},
    )


# What goes wrong


def test_follow__the_next_attempt_of_a_run_goes_on(
    thread_id: str, listen: Listen, new_run: Callable[..., Run], worker: Worker
) -> None:
    client = listen(f"/threads/{thread_id}/stream")
    run = new_run()
    lost = worker.claim(run["run_id"])
    worker.send(lost, "values", {"n": 1})
    client.wait_for(2)
    with worker.rt.engine.begin() as tx:
        runs.release(tx, [lost])
    again = worker.claim(run["run_id"])
    worker.send(lost, "values", {"n": "lost"})
    worker.send(again, "values", {"n": 2})
    worker.end(again, {"n": 2})

    events = client.wait_for(5)
    assert [name for name, _, _ in events] == [
        "metadata",
        "values",
        "metadata",
        "values",
        "metadata",
    ]
    assert shown(events)[3:] == [("values", {"n": 2}), done(run)]
    assert ids(events) == sorted(set(ids(events)))


def test_follow__another_run_has_its_turn_while_one_waits_for_its_next_attempt(
    thread_id: str, listen: Listen, new_run: Callable[..., Run], worker: Worker
) -> None:
    client = listen(f"/threads/{thread_id}/stream")
    delayed = new_run(after_seconds=3600)
    first = new_run(multitask_strategy="enqueue")
    lost = worker.claim(first["run_id"])
    client.wait_for(1)
    with worker.rt.engine.begin() as tx:
        runs.release(tx, [lost])
    make_due(worker, delayed)
    worker.end(worker.claim(delayed["run_id"]), {})
    worker.end(worker.claim(first["run_id"]), {})

    events = client.wait_for(5)
    assert [data["run_id"] for _, data in shown(events)] == [
        first["run_id"],
        delayed["run_id"],
        delayed["run_id"],
        first["run_id"],
        first["run_id"],
    ]
    assert shown(events)[2::2] == [done(delayed), done(first)]


def make_due(worker: Worker, run: Run) -> None:
    from sqlalchemy import text

    with worker.rt.engine.begin() as tx:
        due = text("UPDATE run SET run_after = now() WHERE run_id = :run_id")
        tx.execute(due, {"run_id": run["run_id"]})


def test_follow__redis_forgot_everything_before_the_client_came_back(
    thread_id: str, listen: Listen, play: Callable[..., Run], worker: Worker
) -> None:
    run = play("values")
    seen = listen(f"/threads/{thread_id}/stream", Last_Event_ID="0").wait_for(3)
    missed = play("values")
    worker.rt.redis.flushdb()

    client = listen(f"/threads/{thread_id}/stream", Last_Event_ID=str(seen[0][2]))
    fresh = listen(f"/threads/{thread_id}/stream", Last_Event_ID="0")
    later = play("custom")

    # The end of the run it was in is for Postgres to tell.
    client.wait_until(lambda: done(later) in shown(client.events))
    assert shown(client.events)[-5:] == [
        done(run),
        done(missed),
        begun(later),
        ("custom", {"n": 1}),
        done(later),
    ]
    fresh.wait_until(lambda: done(later) in shown(fresh.events))


def test_follow__redis_forgets_everything_while_the_client_is_there(
    thread_id: str, listen: Listen, new_run: Callable[..., Run], worker: Worker
) -> None:
    client = listen(f"/threads/{thread_id}/stream")
    run = new_run()
    claim = worker.claim(run["run_id"])
    client.wait_for(1)
    worker.rt.redis.flushdb()
    worker.finish(claim)
    assert shown(client.wait_for(2))[-1] == done(run)

    worker.rt.redis.flushdb()
    later = new_run()
    worker.end(worker.claim(later["run_id"]), {})
    assert shown(client.wait_for(4))[-2:] == [begun(later), done(later)]


def test_follow__runs_that_nobody_can_tell_of_any_more(
    thread_id: str,
    listen: Listen,
    play: Callable[..., Run],
    run_graph: Callable[[str, str, str], None],
    worker: Worker,
) -> None:
    play("values")
    seen = listen(f"/threads/{thread_id}/stream", Last_Event_ID="0").wait_for(3)
    play("values")
    last = play("values")
    run_graph("echo", thread_id, "hi")
    worker.rt.redis.flushdb()
    with worker.rt.engine.begin() as tx:
        runs_ended_long_ago(tx)

    events = listen(f"/threads/{thread_id}/stream", Last_Event_ID=str(seen[-1][2])).wait_for(2)

    assert shown(events)[-2:] == [("values", {"value": "hi", "log": ["HI"]}), done(last)]


def runs_ended_long_ago(tx: Tx) -> None:
    tx.execute(text("UPDATE run SET ended_at = ended_at - interval '1 hour'"))


def test_follow__events_were_lost(
    thread_id: str,
    listen: Listen,
    new_run: Callable[..., Run],
    worker: Worker,
    run_graph: Callable[[str, str, str], None],
) -> None:
    run = new_run()
    claim = worker.claim(run["run_id"])
    client = listen(f"/threads/{thread_id}/stream", Last_Event_ID="0")
    client.wait_for(1)
    run_graph("echo", thread_id, "hi")
    worker.rt.redis.flushdb()
    worker.finish(claim)

    events = client.wait_for(3)
    assert shown(events)[1:] == [("values", {"value": "hi", "log": ["HI"]}), done(run)]


@pytest.mark.parametrize("status", [RunStatus.INTERRUPTED, RunStatus.TIMEOUT, RunStatus.ERROR])
def test_follow__a_run_that_does_not_succeed(
    thread_id: str,
    listen: Listen,
    new_run: Callable[..., Run],
    worker: Worker,
    status: RunStatus,
) -> None:
    client = listen(f"/threads/{thread_id}/stream")
    run = new_run()
    claim = worker.claim(run["run_id"])
    if status == RunStatus.ERROR:
        worker.send(claim, "error", {"error": "ValueError", "message": "boom"})
    end(worker, claim, status)

    expected = [begun(run)]
    if status == RunStatus.ERROR:
        expected.append(("error", {"error": "ValueError", "message": "boom"}))
    assert shown(client.wait_for(len(expected) + 1)) == [*expected, done(run)]


def test_follow__a_run_that_is_cancelled_before_it_begins(
    client: FlaskClient, thread_id: str, listen: Listen, new_run: Callable[..., Run]
) -> None:
    stream = listen(f"/threads/{thread_id}/stream")
    run = new_run()
    client.post(f"/threads/{thread_id}/runs/{run['run_id']}/cancel")

    assert shown(stream.wait_for(1)) == [done(run)]


def end(worker: Worker, claim: Claim, status: RunStatus) -> None:
    worker.end(claim, None, status)


def test_follow__the_process_ends(
    thread_id: str, listen: Listen, on_loop: Callable[..., Any], worker: Worker
) -> None:
    client = listen(f"/threads/{thread_id}/stream")
    client.wait_until(lambda: b": heartbeat" in client.heard)
    assert worker.rt.reader is not None
    on_loop(worker.rt.reader.close())

    client.wait_until(lambda: client.failure is not None)
    assert isinstance(client.failure, Unavailable)
    assert client.heard.endswith(b"retry: 200\r\n\r\n")
