"""Paths into a thread."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.extract import follow, parse
from trellis.errors import Invalid

THREAD = {
    "metadata": {"user": "u1", "nested": {"a": [1, [2, 3]]}, "0": "zero", "none": None},
    "values": {"messages": [{"content": "first"}, {"content": "last"}]},
    "config": {},
    "interrupts": {"task": [{"value": "?"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("metadata.user", "u1"),
        ("metadata.nested.a[1][0]", 2),
        ("metadata.nested.a[-1][-1]", 3),
        ("metadata.0", "zero"),
        ("metadata.none", None),
        ("metadata.none.more", None),
        ("metadata.user[0]", None),
        ("metadata[0]", None),
        ("metadata.nested.a.0", None),
        ("metadata.nope", None),
        ("values.messages[-1].content", "last"),
        ("values.messages[-3].content", None),
        ("values.messages[2]", None),
        ("values.messages[999999999]", None),
        ("interrupts.task[0].value", "?"),
        ("config", {}),
    ],
)
def test_follow(path: str, found: Any) -> None:
    assert follow(parse(path), THREAD) == found


def test_follow__values_that_are_none() -> None:
    assert follow(parse("values.messages[0]"), {**THREAD, "values": None}) is None


@pytest.mark.parametrize("path", ["bogus.user", "", ".values", "value", "[0]", "status"])
def test_parse__of_another_root(path: str) -> None:
    with pytest.raises(Invalid, match="must start with one of: config, interrupts, metadata, val"):
        parse(path)


@pytest.mark.parametrize(
    "path",
    [
        "values.",
        "values..a",
        "values.a[",
        "values.a[x]",
        "values.a[]",
        "values.a]",
        "values[1.5]",
        "values.a[" + "9" * 5000 + "]",
        "values[²]",
    ],
    ids=lambda path: path[:12],
)
def test_parse__that_makes_no_sense(path: str) -> None:
    with pytest.raises(Invalid, match=r"must go on with \.key or \[place\]"):
        parse(path)
