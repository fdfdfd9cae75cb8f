"""Filters as handlers return them."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.access import AllOf, AnyOf, Contains, Equals, condition_of, keys_of


def test_condition_of() -> None:
    assert condition_of({"owner": "a", "team": {"$eq": 1}, "in": {"$contains": "b"}}) == AllOf(
        [Equals("owner", "a"), Equals("team", 1), Contains("in", ["b"])]
    )
    assert condition_of({"in": {"$contains": ["b", "c"]}}) == AllOf([Contains("in", ["b", "c"])])


def test_keys_of() -> None:
    raw = {"a": 1, "$or": [{"b": 2}, {"$and": [{"c": {"$contains": 3}}, {"a": 4}]}]}

    assert keys_of(condition_of(raw)) == {"a", "b", "c"}
    assert keys_of(None) == set()


def test_condition_of__nested() -> None:
    found = condition_of({"a": 1, "$or": [{"b": 2}, {"$and": [{"c": 3}, {"d": 4}]}]})

    inner = AllOf([AllOf([AllOf([Equals("c", 3)]), AllOf([Equals("d", 4)])])])
    assert found == AllOf([Equals("a", 1), AnyOf([AllOf([Equals("b", 2)]), inner])])


@pytest.mark.parametrize(
    "raw",
    [
        {"$nor": [{"a": 1}]},
        {"$or": {"a": 1}},
        {"$or": [1]},
        {"a": {}},
        {"a": {"$gt": 1}},
        {"a": {"$eq": 1, "b": 2}},
        {1: 2},
        {"a": "x\0"},
        {"a\0": "x"},
        {"a": {"$contains": ["\ud800"]}},
        {"$or": [{"a": {"$eq": {"b": "\0"}}}]},
        {"a": object},
    ],
    ids=ascii,
)
def test_condition_of__no_filter(raw: Any) -> None:
    with pytest.raises(ValueError, match="filter"):
        condition_of(raw)
