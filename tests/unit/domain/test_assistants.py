"""Merging an assistant's settings with a run's."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.assistants import aligned, merge_config, merge_context
from trellis.errors import BadRequest


def test_merge_config__key_by_key():
    merged = merge_config(
        {"tags": ["a"], "recursion_limit": 5, "configurable": {"x": 1, "y": 1}},
        {"tags": ["b"], "configurable": {"y": 2}},
        configurable={"run_id": "r"},
    )

    assert merged == {
        "tags": ["b"],
        "recursion_limit": 5,
        "configurable": {"x": 1, "y": 2, "run_id": "r"},
    }


def test_merge_config__reserved_keys_are_the_servers():
    client = {"langgraph_auth_user": "root", "__pregel_send": 1, "thread_id": "t2", "run_id": "r2"}

    merged = merge_config({}, {"configurable": client}, configurable={"thread_id": "t1"})

    assert merged["configurable"] == {"thread_id": "t1"}


def test_merge_context__mirrors_configurable():
    assert merge_context({}, {}, None, {"configurable": {"model": "q", "run_id": "r"}}) == {
        "model": "q"
    }
    assert merge_context({"a": 1}, {}, {"b": 2}, {}) == {"a": 1, "b": 2}
    assert merge_context({}, {"configurable": {"a": 1}}, {"a": 2}, {}) == {"a": 2}


@pytest.mark.parametrize(
    ("config", "context", "aligned_config", "aligned_context"),
    [
        (None, None, {}, {}),
        ({"tags": ["t"]}, None, {"tags": ["t"]}, {}),
        ({"tags": ["t"]}, {"a": 1}, {"tags": ["t"], "configurable": {"a": 1}}, {"a": 1}),
        ({"configurable": {"a": 1}}, {}, {"configurable": {"a": 1}}, {"a": 1}),
        ({"configurable": {"run_id": 1}}, {"a": 1}, {"configurable": {"a": 1}}, {"a": 1}),
        ({"configurable": {"__pregel_x": 1}}, None, {}, {}),
        (None, {"run_id": "mine"}, {}, {"run_id": "mine"}),
    ],
)
def test_aligned(config: Any, context: Any, aligned_config: Any, aligned_context: Any) -> None:
    assert aligned(config, context) == (aligned_config, aligned_context)


def test_aligned__both() -> None:
    with pytest.raises(BadRequest, match="Prefer setting context alone"):
        aligned({"configurable": {"a": 1}}, {"a": 1})
