"""What a client's command becomes."""

from __future__ import annotations

import pytest
from langgraph.types import Command, Send

from trellis.graphs.commands import command_of


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"resume": None, "update": {"a": 1}}, Command(update={"a": 1})),
        ({"update": [["a", 1], ["b", 2]]}, Command(update=[("a", 1), ("b", 2)])),
        ({"goto": ["a", "b"]}, Command(goto=["a", "b"])),
        ({"goto": {"node": "a", "input": 1}}, Command(goto=Send("a", 1))),
        ({"goto": [{"node": "a", "input": 1}]}, Command(goto=[Send("a", 1)])),
        ({"resume": {"id1": "x"}}, Command(resume={"id1": "x"})),
        ({"resume": False}, Command(resume=False)),
    ],
)
def test_command_of(raw, expected):
    assert command_of(raw) == expected
