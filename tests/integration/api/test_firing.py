"""Crons that are due: fired once, by whoever is first, whatever happens to the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import text

from trellis.db import crons as rows
from trellis.db.statements import sql as sql_text
from trellis.domain.ids import default_assistant_id
from trellis.runtime import Runtime
from trellis.services import crons

ECHO = {"assistant_id": "echo", "schedule": "0 0 1 1 *", "input": {"value": "a"}}

Make = Callable[..., str]


@pytest.fixture
def make(client: FlaskClient) -> Make:
    """Make a cron. Returns its id."""

    def do(thread_id: str | None = None, **fields: Any) -> str:
        path = f"/threads/{thread_id}/runs/crons" if thread_id else "/runs/crons"
        response = client.post(path, json={**ECHO, **fields})
        assert response.status_code == 200, response.text
        return str(response.get_json()["cron_id"])

    return do


@pytest.fixture
def due(sql: Any) -> Callable[..., str]:
    """Move a cron's next tick to so many minutes ago. Returns it."""

    def move(cron_id: str, minutes: int = 1) -> str:
        return str(
            sql(
                "UPDATE cron SET next_run_at = date_trunc('minute', clock_timestamp()) "
                "- make_interval(mins => :m) WHERE cron_id = CAST(:c AS uuid) RETURNING next_run_at::text",
                m=minutes,
                c=cron_id,
            )
        )

    return move


@pytest.fixture
def ticks(sql: Any) -> Callable[[str], int]:
    """How many runs a cron's ticks have made."""
    count = "SELECT count(*) FROM run WHERE cron_id = CAST(:c AS uuid) AND cron_tick IS NOT NULL"
    return lambda cron_id: sql(count, c=cron_id)


@pytest.fixture
def the_run(client: FlaskClient, sql: Any) -> Callable[[], Any]:
    """The only run, as a client sees it."""
    return lambda: client.get(f"/runs/{sql('SELECT run_id::text FROM run')}").get_json()


def test_fire(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, sql: Any, the_run: Any
) -> None:
    cron_id = make(metadata={"m": 1}, on_run_completed="keep", config={"tags": ["t"]})
    before = client.get(f"/runs/crons/{cron_id}").get_json()
    tick = due(cron_id)

    assert crons.fire(rt) == 1
    assert crons.fire(rt) == 0

    run = the_run()
    assert run["status"] == "pending"
    assert run["kwargs"]["input"] == {"value": "a"}
    assert run["kwargs"]["config"]["tags"] == ["t"]
    assert run["kwargs"]["config"]["configurable"]["cron_id"] == cron_id
    assert run["kwargs"]["config"]["configurable"]["langgraph_request_id"] is None
    assert run["metadata"] == {
        "created_by": "system",
        "assistant_id": default_assistant_id("echo"),
        "m": 1,
    }
    assert client.get(f"/threads/{run['thread_id']}").get_json()["metadata"] == {
        "graph_id": "echo",
        "assistant_id": default_assistant_id("echo"),
        "m": 1,
    }
    assert sql("SELECT cron_tick::text FROM run") == tick
    assert client.get(f"/runs/crons/{cron_id}").get_json() == before


def test_fire__of_what_was_changed_meanwhile(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, the_run: Any
) -> None:
    """What was prepared is thrown away, and the next look fires the cron as it is by then."""
    cron_id = make()
    due(cron_id)
    with rt.autocommit.connect() as tx:
        seen = rows.due_one(tx, cron_id)
    changed = {"input": {"value": "b"}}

    assert client.patch(f"/runs/crons/{cron_id}", json=changed).status_code == 200

    with rt.engine.begin() as tx:
        assert rows.take(tx, cron_id, None, as_of=seen) is None
    assert crons.fire(rt) == 1
    assert the_run()["kwargs"]["input"] == {"value": "b"}


def test_fire__tells_the_workers(rt: Runtime, make: Make, due: Any) -> None:
    due(make())

    crons.fire(rt)

    assert rt.redis.llen("runs") == 1


def test_fire__without_redis(rt: Runtime, make: Make, due: Any, ticks: Any) -> None:
    """The run is there; a worker finds it in Postgres."""
    cron_id = make()
    due(cron_id)
    rt.redis.connection_pool.disconnect()
    rt.redis.connection_pool.connection_kwargs["port"] = 1
    with pytest.raises(redis.ConnectionError):
        rt.redis.ping()

    assert crons.fire(rt) == 1
    assert ticks(cron_id) == 1


def test_fire__deletes_its_thread_unless_told_otherwise(
    rt: Runtime, make: Make, due: Any, sql: Any, the_run: Any
) -> None:
    due(make())

    crons.fire(rt)

    assert the_run()["kwargs"]["temporary"] is True
    assert sql("SELECT temporary FROM thread") is True


def test_fire__on_a_thread(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, the_run: Any
) -> None:
    thread = client.post("/threads", json={"metadata": {"tm": 1}}).get_json()["thread_id"]
    due(make(thread, metadata={"z": 1}, multitask_strategy="interrupt"))

    crons.fire(rt)

    run = the_run()
    stamp = {"graph_id": "echo", "assistant_id": default_assistant_id("echo")}
    assert (run["thread_id"], run["multitask_strategy"]) == (thread, "interrupt")
    assert run["metadata"] == {"created_by": "system", "tm": 1, **stamp, "z": 1}
    assert client.get(f"/threads/{thread}").get_json()["metadata"] == {"tm": 1, **stamp}


def test_fire__interrupts(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, thread_id: str
) -> None:
    first = client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"}).get_json()
    due(make(thread_id, multitask_strategy="interrupt"))

    crons.fire(rt)

    runs = client.get(f"/threads/{thread_id}/runs").get_json()
    assert [run["status"] for run in runs] == ["pending", "interrupted"]
    assert runs[1]["run_id"] == first["run_id"]


def test_fire__after_a_patch(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, the_run: Any
) -> None:
    cron_id = make(metadata={"a": 1})
    changes = {"input": {"value": "b"}, "metadata": {"b": 2}, "context": {"cron_id": "forged"}}
    assert client.patch(f"/runs/crons/{cron_id}", json=changes).status_code == 200
    due(cron_id)

    crons.fire(rt)

    run = the_run()
    assert run["kwargs"]["input"] == {"value": "b"}
    assert (run["metadata"]["a"], run["metadata"]["b"]) == (1, 2)
    assert run["kwargs"]["config"]["configurable"]["cron_id"] == cron_id


def test_fire__missed_ticks_are_made_up_for_once(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, ticks: Any
) -> None:
    cron_id = make(schedule="0 * * * *")
    due(cron_id, minutes=600)

    assert [crons.fire(rt) for _ in range(3)] == [1, 0, 0]

    assert ticks(cron_id) == 1
    shown = client.get(f"/runs/crons/{cron_id}").get_json()["next_run_date"]
    assert datetime.fromisoformat(shown) > datetime.now(UTC) - timedelta(minutes=1)


@pytest.mark.parametrize("fields", [{"enabled": False}, {"end_time": "2020-01-01T00:00:00Z"}])
def test_fire__not_any_more(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, ticks: Any, fields: Any
) -> None:
    cron_id = make(**fields)
    due(cron_id)
    before = client.get(f"/runs/crons/{cron_id}").get_json()

    assert crons.fire(rt) == 0
    assert ticks(cron_id) == 0
    assert client.get(f"/runs/crons/{cron_id}").get_json() == before


def test_fire__the_tick_at_the_end_is_the_last(
    rt: Runtime, make: Make, due: Any, ticks: Any, sql: Any
) -> None:
    cron_id = make(schedule="* * * * *")
    due(cron_id)
    sql("UPDATE cron SET end_time = next_run_at")

    assert crons.fire(rt) == 1
    due(cron_id, minutes=0)
    assert crons.fire(rt) == 0
    assert ticks(cron_id) == 1


def test_fire__enabled_again_does_not_make_up_for_the_pause(
    rt: Runtime, client: FlaskClient, make: Make, due: Any
) -> None:
    cron_id = make(enabled=False)
    due(cron_id, minutes=600)

    client.patch(f"/runs/crons/{cron_id}", json={"enabled": True})

    assert crons.fire(rt) == 0


def test_fire__the_last_tick_of_all(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, sql: Any
) -> None:
    """A schedule with years comes to its end."""
    cron_id = make(schedule="0 0 1 1 * 0 2040")
    due(cron_id)
    sql("UPDATE cron SET schedule = '0 0 1 1 * 0 2020'")

    assert crons.fire(rt) == 1
    assert client.get(f"/runs/crons/{cron_id}").get_json()["next_run_date"] is None
    assert crons.fire(rt) == 0


BROKEN = {
    "its assistant is another tenant's": (
        "UPDATE assistant SET tenant_id = 'other' WHERE graph_id = 'hitl'",
        "NotFound: Thread or assistant not found.",
    ),
    "what it is to run makes no sense": (
        "UPDATE cron SET run = '{}' WHERE payload ->> 'schedule' = '0 0 2 1 *'",
        "TypeError: ",
    ),
    "its thread is busy": (
        'UPDATE cron SET run = (run::jsonb || \'{"multitask_strategy": "reject"}\')::json '
        "WHERE thread_id IS NOT NULL",
        "Conflict: Thread is already running a task.",
    ),
    "its tick has been fired": (
        "UPDATE run SET cron_id = c.cron_id, cron_tick = c.next_run_at FROM cron c "
        "WHERE c.thread_id IS NOT NULL",
        "IntegrityError: ",
    ),
}


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_fire__a_broken_one_does_not_stop_the_others(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, sql: Any, thread_id: str, how: str
) -> None:
    client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"})
    broken = make(thread_id, assistant_id="hitl", schedule="0 0 2 1 *")
    due(broken, minutes=2)
    due(make())
    statement, error = BROKEN[how]
    sql(statement)

    assert crons.fire(rt) == 2

    assert sql("SELECT count(*) FROM run") == 2
    assert sql("SELECT last_error FROM cron WHERE thread_id IS NOT NULL").startswith(error)
    assert sql("SELECT last_error FROM cron WHERE thread_id IS NULL") is None
    shown = client.get(f"/runs/crons/{broken}").get_json()["next_run_date"]
    assert shown.endswith("01-02T00:00:00+00:00")


#: What can be neither fired nor passed over, and how it is mended.
STUCK = {
    "time zone": ("timezone = 'Gone/Zone'", "Invalid: ", "timezone = NULL"),
    "handler": (
        "run = jsonb_set(run::jsonb, '{$hooked}', '\"x\"')::json",
        "KeyMissing: ",
        "run = (run::jsonb - '$hooked')::json",
    ),
}


@pytest.mark.parametrize("how", sorted(STUCK))
def test_fire__a_stuck_one_gets_out_of_the_way_and_loses_no_tick(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, ticks: Any, sql: Any, how: str
) -> None:
    stuck, other = make(), make()
    tick = due(stuck, minutes=2)
    due(other)
    breaks, error, mends = STUCK[how]
    of_it = "WHERE cron_id = CAST(:c AS uuid)"
    sql(f"UPDATE cron SET {breaks} {of_it} RETURNING 1", c=stuck)

    assert [crons.fire(rt, limit=1) for _ in range(2)] == [0, 1]

    assert (ticks(stuck), ticks(other)) == (0, 1)
    assert sql(f"SELECT next_run_at::text FROM cron {of_it}", c=stuck) == tick
    assert sql(f"SELECT last_error FROM cron {of_it}", c=stuck).startswith(error)
    sql(f"UPDATE cron SET look_at = clock_timestamp(), {mends} {of_it} RETURNING 1", c=stuck)
    assert crons.fire(rt) == 1
    assert sql(f"SELECT cron_tick::text FROM run {of_it}", c=stuck) == tick
    assert sql(f"SELECT last_error IS NULL AND look_at IS NULL FROM cron {of_it}", c=stuck)


def test_fire__its_assistant_is_deleted(make: Make, sql: Any) -> None:
    make(assistant_id="hitl")

    sql("DELETE FROM assistant WHERE graph_id = 'hitl'")

    assert sql("SELECT count(*) FROM cron") == 0


def test_fire__dies_before_the_commit(
    rt: Runtime, make: Make, due: Any, ticks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the run nor the next tick is there, and nobody was told; then somebody else does both."""
    cron_id = make()
    due(cron_id)

    def die(*_: Any, **__: Any) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as dying:
        dying.setattr(rows, "advance", die)
        with pytest.raises(SystemExit):
            crons.fire(rt)
    assert (ticks(cron_id), rt.redis.llen("runs")) == (0, 0)

    assert crons.fire(rt) == 1
    assert (ticks(cron_id), rt.redis.llen("runs")) == (1, 1)


def test_fire__a_conflict_in_the_database_costs_no_tick(
    rt: Runtime, client: FlaskClient, make: Make, due: Any, ticks: Any, sql: Any, thread_id: str
) -> None:
    """Somebody holds the run that is to make room, for longer than a statement waits."""
    client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"})
    cron_id = make(thread_id, multitask_strategy="interrupt")
    due(cron_id)
    with rt.engine.begin() as tx:
        tx.exec_driver_sql("SELECT 1 FROM run FOR UPDATE")
        assert crons.fire(rt) == 0
    assert ticks(cron_id) == 0

    assert crons.fire(rt) == 1
    assert ticks(cron_id) == 1
    assert sql("SELECT last_error FROM cron") is None


@pytest.mark.parametrize("table", ["thread", "cron"])
def test_fire__does_not_wait_for_a_lock(
    rt: Runtime, make: Make, due: Any, ticks: Any, thread_id: str, table: str
) -> None:
    """A thread that is being deleted waits for its crons: whoever fires must not wait for the thread."""
    cron_id, other = make(thread_id), make()
    due(cron_id, minutes=2)
    due(other)
    with rt.engine.begin() as tx:
        condition = "thread_id = CAST(:t AS uuid)"
        tx.execute(text(f"SELECT 1 FROM {table} WHERE {condition} FOR UPDATE"), {"t": thread_id})
        assert crons.fire(rt) == 1

    assert (ticks(cron_id), ticks(other)) == (0, 1)
    assert crons.fire(rt) == 1
    assert ticks(cron_id) == 1


def test_fire__the_second_finds_it_fired(
    rt: Runtime, make: Make, due: Any, ticks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found it due before either has taken it."""
    cron_id = make()
    due(cron_id)
    found = threading.Barrier(2, timeout=30)
    look = rows.due

    def look_together(*args: Any, **kwargs: Any) -> Any:
        seen = look(*args, **kwargs)
        found.wait()
        return seen

    monkeypatch.setattr(rows, "due", look_together)
    with ThreadPoolExecutor(2) as pool:
        fired = list(pool.map(crons.fire, [rt, rt]))

    assert sorted(fired) == [0, 1]
    assert ticks(cron_id) == 1


def test_fire__many_at_once_by_four(rt: Runtime, make: Make, due: Any, sql: Any) -> None:
    ids = [make() for _ in range(40)]
    for turn in range(1, 6):
        for cron_id in ids:
            # Far apart: the next minute may begin at any time, and a tick runs but once.
            due(cron_id, 10 * turn)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(crons.fire, [rt] * 4))
        # What was locked by somebody else who then failed would be left; nobody failed.
        assert sql("SELECT count(*) FROM run") == 40 * turn

    assert sql("SELECT count(DISTINCT (cron_id, cron_tick)) FROM run") == 200


def test_due__reads_the_index(rt: Runtime, make: Make, sql: Any) -> None:
    """However many crons are not due, or have ended."""
    make()
    sql(
        "INSERT INTO cron (cron_id, assistant_id, schedule, next_run_at, end_time, payload, run) "
        "SELECT gen_random_uuid(), assistant_id, schedule, CASE WHEN n % 2 = 0 THEN now() + interval '1 day' "
        "ELSE now() - interval '1 day' END, CASE WHEN n % 2 = 1 THEN now() - interval '2 days' END, '{}', '{}' "
        "FROM cron, generate_series(1, 2000) AS n"
    )
    with rt.engine.connect() as tx:
        tx.exec_driver_sql("ANALYZE cron")
        plan = tx.exec_driver_sql(
            "EXPLAIN (ANALYZE, FORMAT JSON) " + sql_text("crons", "due"), {"limit": 100}
        ).scalar_one()

    scan = next(each for each in _nodes(plan[0]["Plan"]) if each.get("Index Name"))
    assert scan["Index Name"] == "ix_cron_due"
    assert "next_run_at" in scan["Index Cond"]
    assert scan["Actual Rows"] == scan.get("Rows Removed by Filter", 0) == 0


def _nodes(plan: Any) -> Any:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)
