"""Filters on values that Postgres cannot read: as its search statement has them."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.filters import meets
from trellis.errors import Invalid

VALUE = {"n": 2, "s": "b", "t": True, "z": None, "o": {"x": 1}, "l": [1, {"y": 2.0}]}


@pytest.mark.parametrize(
    ("path", "comparison", "operand", "is_met"),
    [
        ("n", "$eq", 2.0, True),
        ("n", "$eq", True, False),
        ("n", "$ne", 3, True),
        ("t", "$eq", 1, False),
        ("missing", "$eq", None, True),
        ("missing", "$ne", 1, True),
        ("o.x", "$eq", 1, True),
        ("o.x.deeper", "$eq", None, True),
        ("o", "$eq", {"x": 1}, True),
        ("o", "$eq", {"x": True}, False),
        ("o", "$eq", {}, False),
        ("l", "$eq", [1, {"y": 2}], True),
        ("l", "$eq", [{"y": 2}, 1], False),
        ("o", "object", None, True),
        ("l", "object", None, False),
        ("n", "$gt", 1.5, True),
        ("n", "$gt", 2, False),
        ("n", "$gte", 2, True),
        ("n", "$lt", "3", False),
        ("s", "$lt", "c", True),
        ("s", "$lte", "b", True),
        ("t", "$gt", False, True),
        ("t", "$gt", 0, False),
        ("z", "$gte", None, True),
        ("z", "$gt", None, False),
        ("n", "$gte", None, False),
    ],
)
def test_meets(path: str, comparison: str, operand: Any, is_met: bool) -> None:
    condition = {"path": path.split("."), "operator": comparison, "operand": operand}

    assert meets(VALUE, [condition]) is is_met
    assert meets(VALUE, [condition, {"path": ["n"], "operator": "$eq", "operand": 9}]) is False


def test_meets__orders_no_lists() -> None:
    with pytest.raises(Invalid, match="cannot order"):
        meets(VALUE, [{"path": ["l"], "operator": "$gt", "operand": []}])
