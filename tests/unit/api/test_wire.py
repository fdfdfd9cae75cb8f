"""Rows and snapshots as JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from trellis.api import wire
from trellis.errors import Invalid

AT = datetime(2026, 11, 22, 9, 59, 15, tzinfo=UTC)


def test_time__always_has_microseconds() -> None:
    assert wire.time(AT) == "2026-11-22T09:59:15.000000+00:00"


def test_time__of_another_zone_is_shown_in_utc() -> None:
    at = AT.astimezone(timezone(timedelta(hours=5)))

    assert wire.time(at) == "2026-11-22T09:59:15.000000+00:00"


@pytest.mark.parametrize(
    ("found", "shown", "headers"),
    [
        ([], [], {"X-Pagination-Total": "4"}),
        ([1], [1], {"X-Pagination-Total": "5"}),
        ([1, 2], [1, 2], {"X-Pagination-Total": "6"}),
        ([1, 2, 3], [1, 2], {"X-Pagination-Total": "7", "X-Pagination-Next": "6"}),
    ],
)
def test_page(found: list[int], shown: list[int], headers: dict[str, str]) -> None:
    assert wire.page(found, limit=2, offset=4) == (shown, headers)


def interrupt(**fields: Any) -> Any:
    return SimpleNamespace(id="i1", value="?", **fields)


def task(**fields: Any) -> Any:
    defaults = {
        "id": "t1",
        "name": "ask",
        "path": ("__pregel_pull", "ask"),
        "error": None,
        "interrupts": (),
        "state": None,
        "result": None,
    }
    return SimpleNamespace(**{**defaults, **fields})


def snapshot(**fields: Any) -> Any:
    defaults = {
        "values": {"a": 1, "b": 2},
        "next": ("ask",),
        "tasks": (),
        "metadata": {"step": 1},
        "created_at": "now",
        "config": {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c2"}},
        "parent_config": None,
        "interrupts": (),
    }
    return SimpleNamespace(**{**defaults, **fields})


def test_state__names_the_checkpoint_twice() -> None:
    shown = wire.state(snapshot())

    assert shown["checkpoint"] == {"checkpoint_id": "c2", "thread_id": "t", "checkpoint_ns": ""}
    assert shown["checkpoint_id"] == "c2"
    assert (shown["parent_checkpoint"], shown["parent_checkpoint_id"]) == (None, None)


def test_state__keeps_to_itself_what_else_the_config_holds() -> None:
    config = {"configurable": {"thread_id": "t", "__pregel_checkpointer": object()}}

    assert wire.state(snapshot(config=config))["checkpoint"] == {"thread_id": "t"}


def test_state__interrupts_without_an_empty_schema() -> None:
    found = (interrupt(response_schema=None), interrupt(), interrupt(response_schema={"a": 1}))

    assert wire.state(snapshot(interrupts=found))["interrupts"] == [
        {"id": "i1", "value": "?"},
        {"id": "i1", "value": "?"},
        {"id": "i1", "value": "?", "response_schema": {"a": 1}},
    ]


@pytest.mark.parametrize(
    ("error", "shown"),
    [(None, None), (ValueError("boom"), "ValueError('boom')"), ("already text", "already text")],
)
def test_state__error_of_a_task(error: Any, shown: str | None) -> None:
    [found] = wire.state(snapshot(tasks=(task(error=error),)))["tasks"]

    assert found["error"] == shown


def test_state__a_closed_subgraph_is_a_checkpoint_and_an_open_one_a_state() -> None:
    closed = task(state={"configurable": {"thread_id": "t", "checkpoint_ns": "ask:1"}})
    opened = task(state=snapshot())

    first, second = wire.state(snapshot(tasks=(closed, opened)))["tasks"]

    assert (first["checkpoint"], first["state"]) == (
        {"thread_id": "t", "checkpoint_ns": "ask:1"},
        None,
    )
    assert (second["checkpoint"], second["state"]) == (None, wire.state(snapshot()))


@pytest.mark.parametrize(
    ("select", "shown"),
    [
        (["next"], {"next": ["ask"]}),
        (["values.a", "values.missing"], {"values": {"a": 1}}),
        (["values", "values.a"], {"values": {"a": 1, "b": 2}}),
    ],
)
def test_selected_state(select: list[str], shown: dict[str, Any]) -> None:
    assert wire.selected_state(wire.state(snapshot()), select) == shown


def test_check_selection() -> None:
    wire.check_selection(["values.a", "next"])
    wire.check_selection(None)
    with pytest.raises(Invalid, match="bogus"):
        wire.check_selection(["next", "bogus"])
