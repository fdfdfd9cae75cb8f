"""Crons through the official clients, fired by a real worker."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from langgraph_sdk.errors import BadRequestError, NotFoundError, UnprocessableEntityError

from acceptance.system import System, wait_for

NEVER = "0 0 1 1 *"


@pytest.fixture
def assistant_id(client: Any) -> str:
    """Of the graph that has three steps."""
    [found] = client.assistants.search(graph_id="steps")
    return str(found["assistant_id"])


@pytest.fixture
def make_due(server: System) -> Callable[[str], None]:
    def move(cron_id: str) -> None:
        statement = (
            "UPDATE cron SET next_run_at = clock_timestamp() - interval '1 minute' "
            "WHERE cron_id = %s"
        )
        assert server.change(statement, cron_id) == 1

    return move


def runs_of(server: System, cron_id: str) -> list[tuple[str, str, str]]:
    query = "SELECT thread_id::text, run_id::text, status FROM run WHERE cron_id = %s ORDER BY seq"
    return server.rows(query, cron_id)


def ended(server: System, cron_id: str, *, runs: int = 1) -> list[tuple[str, str, str]]:
    def found() -> list[tuple[str, str, str]]:
        rows = runs_of(server, cron_id)
        return rows if [row[2] for row in rows] == ["success"] * runs else []

    rows: list[tuple[str, str, str]] = wait_for(found, what="the cron's run")
    return rows


def test_fires(client: Any, server: System, make_due: Any) -> None:
    cron = client.crons.create(
        "steps", schedule=NEVER, input={}, metadata={"m": 1}, on_run_completed="keep"
    )

    make_due(cron["cron_id"])

    [(thread_id, run_id, _)] = ended(server, cron["cron_id"])
    run = client.runs.get(thread_id, run_id)
    assert run["metadata"]["m"] == 1
    assert run["kwargs"]["config"]["configurable"]["cron_id"] == cron["cron_id"]
    thread = client.threads.get(thread_id)
    assert thread["values"] == {"log": ["one", "two", "three"]}
    assert (thread["metadata"]["m"], thread["metadata"]["graph_id"]) == (1, "steps")
    assert server.get(f"/runs/crons/{cron['cron_id']}") == cron
    client.crons.delete(cron["cron_id"])


def test_fires_on_its_thread_twice(
    client: Any, server: System, make_due: Any, thread_id: str
) -> None:
    cron = client.crons.create_for_thread(thread_id, "steps", schedule=NEVER, input={})
    for runs in (1, 2):
        make_due(cron["cron_id"])
        ended(server, cron["cron_id"], runs=runs)

    assert len(client.runs.list(thread_id)) == 2
    assert {row[0] for row in runs_of(server, cron["cron_id"])} == {thread_id}


def test_a_graph_that_is_broken_does_not_stop_the_others(
    client: Any, server: System, make_due: Any
) -> None:
    broken = client.crons.create("broken", schedule=NEVER, on_run_completed="keep")["cron_id"]
    whole = client.crons.create("steps", schedule=NEVER, input={})["cron_id"]
    make_due(broken)
    make_due(whole)

    ended(server, whole)

    wait_for(lambda: [row[2] for row in runs_of(server, broken)] == ["error"], what="its failure")


def test_every_second(client: Any, server: System) -> None:
    """Nothing is moved here: the schedule itself makes it due."""
    cron = client.crons.create("steps", schedule="* * * * * *", input={})

    wait_for(lambda: len(runs_of(server, cron["cron_id"])) >= 2, what="two ticks")

    client.crons.update(cron["cron_id"], enabled=False)
    query = "SELECT count(*), count(DISTINCT cron_tick) FROM run WHERE cron_id = %s"
    [(count, ticks)] = server.rows(query, cron["cron_id"])
    assert count == ticks


def test_create_get_update_delete(client: Any, server: System, assistant_id: str) -> None:
    end = datetime(2040, 1, 1, tzinfo=UTC)
    cron = client.crons.create(
        assistant_id,
        schedule="30 8 * * 1-5",
        timezone="Europe/Berlin",
        end_time=end,
        enabled=False,
        input={"a": 1},
        config={"tags": ["t"], "recursion_limit": 9},
        interrupt_before=["one"],
        stream_mode=["values", "updates"],
        durability="sync",
    )

    assert cron["end_time"] == end.isoformat()
    assert (cron["timezone"], cron["enabled"]) == ("Europe/Berlin", False)
    assert server.get(f"/runs/crons/{cron['cron_id']}") == cron
    changed = client.crons.update(
        cron["cron_id"], schedule="@daily", timezone="Asia/Tokyo", end_time=None, enabled=True
    )
    assert (changed["schedule"], changed["end_time"], changed["enabled"]) == ("@daily", None, True)
    assert changed["next_run_date"].endswith("T15:00:00+00:00")
    client.crons.delete(cron["cron_id"])
    with pytest.raises(NotFoundError):
        client.crons.delete(cron["cron_id"])


def test_search_and_count(client: Any, thread_id: str) -> None:
    mark = {"mark": uuid.uuid4().hex}
    ids = [
        client.crons.create("steps", schedule=schedule, metadata=mark, enabled=False)["cron_id"]
        for schedule in ("0 1 * * *", "0 2 * * *")
    ]
    ids.append(
        client.crons.create_for_thread(thread_id, "steps", schedule=NEVER, metadata=mark)["cron_id"]
    )

    assert [each["cron_id"] for each in client.crons.search(metadata=mark)] == ids[::-1]
    by_date = client.crons.search(metadata=mark, sort_by="next_run_date", sort_order="desc")
    assert by_date[0]["cron_id"] == ids[2]
    [only] = client.crons.search(thread_id=thread_id, select=["cron_id", "enabled"])
    assert only == {"cron_id": ids[2], "enabled": True}
    assert len(client.crons.search(metadata=mark, enabled=False, limit=1, offset=1)) == 1
    assert client.crons.count(metadata=mark) == 3
    assert client.crons.count(thread_id=thread_id) == 1
    client.threads.delete(thread_id)
    assert client.crons.count(metadata=mark) == 2


def test_refused(client: Any) -> None:
    with pytest.raises(UnprocessableEntityError, match="Invalid cron schedule: 'bad'"):
        client.crons.create("steps", schedule="bad")
    with pytest.raises(UnprocessableEntityError, match="Invalid timezone: 'Mars/X'"):
        client.crons.create("steps", schedule=NEVER, timezone="Mars/X")
    with pytest.raises(NotFoundError, match="Assistant 'nope' not found"):
        client.crons.create("nope", schedule=NEVER)
    cron = client.crons.create("steps", schedule=NEVER)
    with pytest.raises(BadRequestError, match="Request body cannot be empty"):
        client.crons.update(cron["cron_id"])


def test_run_now(server: System) -> None:
    body = {"assistant_id": "steps", "schedule": NEVER, "input": {}, "on_run_completed": "keep"}
    cron = server.post("/runs/crons", body)

    run = server.request("POST", f"/runs/crons/{cron['cron_id']}/run").json()

    values = server.get(f"/threads/{run['thread_id']}/runs/{run['run_id']}/join")
    assert values == {"log": ["one", "two", "three"]}
    assert server.get(f"/runs/crons/{cron['cron_id']}") == cron
