"""Accepting runs: in one statement, or not at all."""

from __future__ import annotations

import pytest

from trellis.db import runs
from trellis.domain.ids import new_id


@pytest.fixture
def row(defaults):
    ids = {"run_id": new_id(), "assistant_id": new_id(), "thread_id": new_id()}
    return {**defaults, **ids, "thread_metadata": {"graph_id": "echo"}}


def test_enqueue(engine, a_thread, row, one):
    row["thread_id"] = a_thread()

    with engine.begin() as tx:
        assert runs.enqueue(tx, row)["created_at"]

    assert one("SELECT status FROM thread") == "busy"
    assert one("SELECT metadata->>'graph_id' FROM thread") == "echo"
    assert one("SELECT status FROM run") == "pending"


def test_enqueue__thread_is_gone(engine, row, one):
    with engine.begin() as tx:
        assert runs.enqueue(tx, row) is None

    assert one("SELECT count(*) FROM run") == 0


def test_enqueue__another_tenants_thread(engine, a_thread, row, one):
    row |= {"thread_id": a_thread(), "tenant_id": "other"}

    with engine.begin() as tx:
        assert runs.enqueue(tx, row) is None

    assert one("SELECT status FROM thread") == "idle"


def test_enqueue_with_thread__id_is_taken(engine, a_thread, row, one):
    row["thread_id"] = a_thread()

    with engine.begin() as tx:
        assert runs.enqueue_with_thread(tx, row, temporary=False) is None

    assert one("SELECT count(*) FROM run") == 0
    assert one("SELECT status FROM thread") == "idle"


def test_enqueue__order_is_that_of_the_thread_lock(engine, a_thread, a_run, one):
    thread_id = a_thread()
    accepted = [a_run(thread_id) for _ in range(5)]

    with engine.connect() as tx:
        listed = runs.list_(tx, "default", thread_id, limit=10, offset=0, status=None)

    assert [r["run_id"] for r in listed] == accepted[::-1]
