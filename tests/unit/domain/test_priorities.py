from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.priorities import priority_of


@pytest.mark.parametrize(
    ("answer", "priority"),
    [
        (None, 0),
        ({}, 0),
        ({"priority": None, "fairness_group": None}, 0),
        ({"priority": -5}, -5),
        ({"priority": 5, "fairness_group": "g" * 256}, 5),
    ],
    ids=str,
)
def test_priority_of(answer: Any, priority: int) -> None:
    assert priority_of(answer) == priority


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (3, "it returned int"),
        ({"priority": 6}, "from -5 to 5, not 6"),
        ({"priority": -6}, "from -5 to 5, not -6"),
        ({"priority": True}, "not True"),
        ({"priority": 1.5}, "not 1.5"),
        ({"priority": "1"}, "not '1'"),
        ({"fairness_group": "g" * 257}, "at most 256 characters"),
        ({"fairness_group": 5}, "is a text"),
        ({"prio": 1}, "not prio"),
    ],
    ids=str,
)
def test_priority_of__nonsense(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        priority_of(answer)
