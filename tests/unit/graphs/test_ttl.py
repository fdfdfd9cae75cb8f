"""`checkpointer.ttl` of langgraph.json."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.ttl import ThreadTtl, Ttl
from trellis.errors import ConfigError
from trellis.graphs.ttl import parse


@pytest.mark.parametrize("raw", [None, {}, {"ttl": None}, {"ttl": {}}, {"serde": {}}])
def test_parse__nothing(raw: Any) -> None:
    assert parse("langgraph.json", raw) == ThreadTtl(
        default=None, sweep_interval_minutes=5, sweep_limit=1000
    )


def test_parse() -> None:
    raw = {
        "strategy": "keep_latest",
        "default_ttl": 43_200,
        "sweep_interval_minutes": 0.5,
        "sweep_limit": 10,
    }

    assert parse("langgraph.json", {"ttl": raw}) == ThreadTtl(
        default=Ttl(minutes=43_200, strategy="keep_latest"),
        sweep_interval_minutes=0.5,
        sweep_limit=10,
    )


def test_parse__threads_are_deleted_unless_told_otherwise() -> None:
    found = parse("langgraph.json", {"ttl": {"default_ttl": 1.5}})

    assert found.default == Ttl(minutes=1.5, strategy="delete")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], '"checkpointer" takes an object'),
        ({"ttl": []}, '"checkpointer.ttl" takes an object'),
        ({"ttl": {"strategy": "x"}}, '"checkpointer.ttl.strategy" takes "delete" or "keep_latest"'),
        ({"ttl": {"default_ttl": 0}}, '"checkpointer.ttl.default_ttl" takes minutes'),
        ({"ttl": {"default_ttl": True}}, '"checkpointer.ttl.default_ttl" takes minutes'),
        ({"ttl": {"default_ttl": 1e300}}, '"checkpointer.ttl.default_ttl" takes minutes'),
        ({"ttl": {"sweep_interval_minutes": "5"}}, "sweep_interval_minutes"),
        ({"ttl": {"sweep_limit": 0}}, '"checkpointer.ttl.sweep_limit" takes a whole number'),
        ({"ttl": {"sweep_limit": 1.5}}, '"checkpointer.ttl.sweep_limit" takes a whole number'),
        ({"ttl": {"default": 5}}, 'unknown key "default". It takes: strategy, default_ttl'),
    ],
)
def test_parse__that_makes_no_sense(raw: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse("here/langgraph.json", raw)

    assert str(error.value).startswith("here/langgraph.json: ")
    assert message in str(error.value)
