"""What a paused graph waits for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trellis.domain import interrupts


def test_of_tasks__a_subgraphs_stand_under_the_inner_task():
    question = SimpleNamespace(value="ok?", id="i1", response_schema=None)
    inner = SimpleNamespace(id="inner", interrupts=[question], state=None)
    outer = SimpleNamespace(id="outer", interrupts=[question], state=SimpleNamespace(tasks=[inner]))
    alone = SimpleNamespace(id="alone", interrupts=[question], state=None)

    found = interrupts.of_tasks([outer, alone])

    assert found == {
        "inner": [{"id": "i1", "value": "ok?"}],
        "alone": [{"id": "i1", "value": "ok?"}],
    }


def test_of_tasks__with_a_schema_for_the_answer():
    question = SimpleNamespace(value="age?", id="i1", response_schema={"type": "integer"})
    task = SimpleNamespace(id="t", interrupts=[question], state=None)

    assert interrupts.of_tasks([task]) == {
        "t": [{"id": "i1", "value": "age?", "response_schema": {"type": "integer"}}]
    }


ONE, TWO = "1" * 32, "2" * 32


@pytest.mark.parametrize(
    ("resume", "waiting", "unknown"),
    [
        ("yes", [ONE], []),
        ("yes", [], ["a question"]),
        (None, [], ["a question"]),
        ({}, [ONE], []),
        ({"approved": True}, [ONE], []),
        ({"approved": True}, [], ["a question"]),
        ({ONE: "yes"}, [ONE, TWO], []),
        ({ONE: "yes", TWO: "no"}, [TWO], [ONE]),
        ({ONE: "yes"}, [], [ONE]),
        ({ONE: "yes", "approved": True}, [TWO], []),
    ],
)
def test_unknown_answers(resume: Any, waiting: list[str], unknown: list[str]) -> None:
    asked = {"task": [{"id": key, "value": "?"} for key in waiting]}

    assert interrupts.unknown_answers(resume, asked) == unknown
