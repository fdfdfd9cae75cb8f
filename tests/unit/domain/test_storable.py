"""What Postgres takes as JSON."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.storable import is_storable


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", True),
        ("\\u0000", True),
        ("\\\\u0000", True),
        ({"a": [1, None, "é", {"b": 1.5}]}, True),
        ("\0", False),
        ("\\\0", False),
        ({"a": ["\0"]}, False),
        ({"\0": 1}, False),
        ("\ud800", False),
        ({1: 2}, False),
        (object(), False),
    ],
    ids=range(11),
)
def test_is_storable(value: Any, expected: bool) -> None:
    assert is_storable(value) is expected
