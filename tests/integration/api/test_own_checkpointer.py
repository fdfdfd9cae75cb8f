"""Routes where the operator's own checkpointer has the values of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from langgraph.checkpoint.memory import InMemorySaver

from trellis.db.checkpoints import Contents
from trellis.db.checkpoints.contents import equipped
from trellis.runtime import Runtime

Sql = Callable[..., Any]

LEFT = "SELECT count(*) FROM checkpoint_leftover"


class Mine(InMemorySaver):
    """Tells a test of each checkpoint that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.told: Callable[[str], None] = lambda thread_id: None

    async def aput(self, config: Any, *args: Any) -> Any:
        self.told(config["configurable"]["thread_id"])
        return await super().aput(config, *args)

    def has(self, thread_id: str) -> bool:
        return bool(self.storage.get(thread_id))


@pytest.fixture
def mine(rt: Runtime, loop: asyncio.AbstractEventLoop, sql: Sql) -> Mine:
    sql("DELETE FROM checkpoint_leftover")
    mine, rt.contents = Mine(), Contents()
    rt.contents.open(mine, loop)
    rt.engine = equipped(rt.engine, rt.contents)
    rt.autocommit = equipped(rt.autocommit, rt.contents)
    return mine


@pytest.fixture
def kept(client: FlaskClient, mine: Mine) -> str:
    """A thread with a state that was set by hand."""
    body = {"metadata": {"graph_id": "hitl"}}
    thread_id: str = client.post("/threads", json=body).get_json()["thread_id"]
    update(client, thread_id, "v")
    return thread_id


def update(client: FlaskClient, thread_id: str, value: str) -> Any:
    body = {"values": {"value": value}, "as_node": "__start__"}
    return client.post(f"/threads/{thread_id}/state", json=body).get_json()


def values(client: FlaskClient, thread_id: str) -> Any:
    return client.get(f"/threads/{thread_id}/state").get_json()["values"]


def test_update__that_comes_to_nothing_is_never_read(
    client: FlaskClient, kept: str, mine: Mine, sql: Sql
) -> None:
    """Another change comes in between: this one is worked out anew, and what it put first stays without a row."""
    bump = "UPDATE thread SET fence = fence + 1 WHERE thread_id = :t"
    times = []

    def told(thread_id: str) -> None:
        if not times:
            times.append(1)
            sql(bump, t=thread_id)

    mine.told = told

    made = update(client, kept, "w")

    history = client.get(f"/threads/{kept}/history").get_json()
    assert [state["values"]["value"] for state in history] == ["w", "v"]
    assert history[0]["checkpoint"]["checkpoint_id"] == made["checkpoint"]["checkpoint_id"]
    assert len(mine.storage[kept][""]) == 3


def test_copy(client: FlaskClient, kept: str, mine: Mine, sql: Sql) -> None:
    update(client, kept, "w")

    copy = client.post(f"/threads/{kept}/copy").get_json()

    assert copy["values"]["value"] == values(client, copy["thread_id"])["value"] == "w"
    assert len(client.get(f"/threads/{copy['thread_id']}/history").get_json()) == 2
    assert sql(LEFT) == 0


def test_copy__of_a_thread_that_changes_meanwhile_is_made_again(
    client: FlaskClient, kept: str, mine: Mine, sql: Sql
) -> None:
    targets: list[str] = []

    def told(thread_id: str) -> None:
        targets.append(thread_id)
        if len(targets) == 1:
            sql("UPDATE thread SET fence = fence + 1 WHERE thread_id = :t", t=kept)

    mine.told = told

    copy = client.post(f"/threads/{kept}/copy").get_json()

    assert targets == [targets[0], copy["thread_id"]]
    assert copy["values"]["value"] == "v"
    due = f"{LEFT} WHERE due_at <= clock_timestamp() AND thread_id = :t"
    assert sql(due, t=targets[0]) == sql(LEFT) == 1


def test_copy__that_fails_makes_no_thread(
    client: FlaskClient, kept: str, mine: Mine, sql: Sql
) -> None:
    def told(thread_id: str) -> None:
        raise ConnectionError("no route to 10.1.2.3")

    mine.told = told
    before = sql("SELECT count(*) FROM thread")

    answer = client.post(f"/threads/{kept}/copy")

    assert answer.status_code == 502
    assert "raised ConnectionError in aput" in answer.get_json()["detail"]
    assert "10.1.2.3" not in answer.get_json()["detail"]
    assert sql("SELECT count(*) FROM thread") == before
    assert sql(LEFT) == 1


def test_update__that_the_checkpointer_refuses(
    client: FlaskClient, kept: str, mine: Mine, sql: Sql
) -> None:
    def told(thread_id: str) -> None:
        raise ValueError("nasty: \x00 and \ud800")

    mine.told = told
    body = {"values": {"value": "w"}, "as_node": "__start__"}

    answer = client.post(f"/threads/{kept}/state", json=body)

    assert answer.status_code == 502
    assert "refuses this in aput: ValueError: nasty" in answer.get_json()["detail"]
    assert values(client, kept)["value"] == "v"


def test_copy__of_a_thread_that_changes_all_the_time(
    client: FlaskClient, kept: str, mine: Mine, sql: Sql
) -> None:
    mine.told = lambda _: sql("UPDATE thread SET fence = fence + 1 WHERE thread_id = :t", t=kept)

    answer = client.post(f"/threads/{kept}/copy")

    assert answer.status_code == 409
    assert "changes all the time" in answer.get_json()["detail"]


def test_delete__leaves_the_rest_to_workers(
    client: FlaskClient, kept: str, mine: Mine, sql: Sql
) -> None:
    assert client.delete(f"/threads/{kept}").status_code == 204

    assert client.get(f"/threads/{kept}/state").status_code == 404
    assert mine.has(kept)
    assert sql(f"{LEFT} WHERE thread_id = :t AND run_id IS NULL", t=kept) == 1


@pytest.mark.parametrize("path", ["", "/state", "/history"])
def test_values__that_are_lost(client: FlaskClient, kept: str, mine: Mine, path: str) -> None:
    mine.storage.clear()

    answer = client.get(f"/threads/{kept}{path}")

    assert answer.status_code == 502
    assert "The checkpointer has lost checkpoint" in answer.get_json()["detail"]
