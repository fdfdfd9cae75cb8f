"""Runs that somebody else ends than their worker: whoever follows them hears of it at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from integration.api.doubles import Listener, Worker, parse
from trellis.domain.runs import Claim
from trellis.stream.log import append_ends
from trellis.stream.reader import Timing
from trellis_workers.maintenance import rescuer

Run = dict[str, Any]

LOST = {"error": "WorkerLost", "message": "The workers of this run died too often."}
NOT_FOUND = {"__error__": {"error": "HTTPException", "message": "404: Run not found"}}


@pytest.fixture
def timing() -> Timing:
    """Nobody asks Postgres, whatever happens."""
    return Timing(beat_seconds=300, first_check_seconds=300)


@pytest.fixture
def begun(new_run: Callable[..., Run], worker: Worker) -> Claim:
    """A run that is under way."""
    return worker.claim(new_run()["run_id"])


@pytest.fixture
def followers(listen: Callable[..., Listener], begun: Claim) -> dict[str, Listener]:
    """All who can follow it, each of whom has heard something or cannot before the end."""
    thread = f"/threads/{begun.thread_id}"
    found = {
        "stream": listen(f"{thread}/runs/{begun.run_id}/stream"),
        "join": listen(f"{thread}/runs/{begun.run_id}/join"),
        "thread": listen(f"{thread}/stream", Last_Event_ID="0"),
        "protocol": listen(f"{thread}/stream/events", {"channels": ["lifecycle"]}),
    }
    found["thread"].wait_for(1)
    found["protocol"].wait_for(1)
    return found


def last_words(followers: dict[str, Listener]) -> tuple[Any, ...]:
    """How each hears of the end."""
    of_protocol = followers["protocol"].wait_for(2)[1][1]["params"]["data"]
    thread_done = followers["thread"].wait_for(2)[-1]
    assert thread_done[1]["status"] == "run_done"
    streamed = parse(followers["stream"].wait_for_end())
    joined = orjson.loads(followers["join"].wait_for_end())
    return [data for _, data, _ in streamed], joined, of_protocol["event"]


def sweep(worker: Worker) -> None:
    assert rescuer.rescue(worker.rt.engine, partial(append_ends, worker.rt.redis, "")) == 1


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("cancel_action = 'interrupt'", ([], None, "interrupted")),
        ("cancel_action = 'rollback'", ([], None, "interrupted")),
        ("cancel_action = 'timeout'", ([], None, "failed")),
        ("crashes = 9", ([LOST], {"__error__": LOST}, "failed")),
    ],
)
def test_sweep(
    followers: dict[str, Listener], worker: Worker, sql: Any, lost: str, told: tuple[Any, ...]
) -> None:
    sql(f"UPDATE run SET {lost}, lease_expires_at = now() - interval '1 minute'")
    sweep(worker)

    assert last_words(followers) == told


def test_sweep__a_run_that_is_to_go_on_has_not_ended(
    followers: dict[str, Listener], worker: Worker, begun: Claim, sql: Any
) -> None:
    sql("UPDATE run SET lease_expires_at = now() - interval '1 minute'")
    sweep(worker)
    sql("UPDATE run SET run_after = now()")
    worker.end(worker.claim(begun.run_id), {"n": 1})

    assert last_words(followers)[1:] == ({"n": 1}, "completed")


@pytest.mark.parametrize("what", ["run", "thread"])
def test_delete(
    client: FlaskClient, followers: dict[str, Listener], begun: Claim, what: str
) -> None:
    path = {"run": f"/runs/{begun.run_id}", "thread": ""}[what]
    assert client.delete(f"/threads/{begun.thread_id}{path}").status_code == 204

    assert last_words(followers) == ([], NOT_FOUND, "interrupted")
