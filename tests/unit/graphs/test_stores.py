from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.store import StoreIndex, StoreSettings, StoreTtl
from trellis.errors import ConfigError
from trellis.graphs import stores


@pytest.mark.parametrize("raw", [None, {}, {"ttl": None, "index": None, "path": None}, {"ttl": {}}])
def test_parse__nothing(raw: Any) -> None:
    assert stores.parse("langgraph.json", raw) == StoreSettings()


def test_parse() -> None:
    raw = {
        "ttl": {
            "default_ttl": 1.5,
            "refresh_on_read": False,
            "sweep_interval_minutes": 60,
            "omit_expired": True,
        },
        "index": {"embed": "./e.py:embed", "dims": 3, "fields": ["text", "a[*].b"]},
    }

    assert stores.parse("langgraph.json", raw) == StoreSettings(
        ttl=StoreTtl(default_minutes=1.5, refresh_on_read=False, sweep_minutes=60),
        index=StoreIndex(embed="./e.py:embed", dims=3, fields=("text", "a[*].b")),
    )


def test_parse__of_your_own() -> None:
    raw = {"path": "./s.py:store", "ttl": {}, "index": None}

    assert stores.parse("langgraph.json", raw) == StoreSettings(path="./s.py:store")


INDEX = {"embed": "openai:text-embedding-3-small", "dims": 1536}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], '"store" takes an object'),
        ({"indx": {}}, 'unknown key "indx". It takes: index, ttl, path'),
        ({"path": 5}, '"store.path" takes a text: "path/to/file.py:variable"'),
        ({"path": "./s.py:s", "ttl": {"default_ttl": 1}}, '"store.ttl" is for the store in'),
        ({"path": "./s.py:s", "index": {"dims": 1}}, '"store.index" is for the store in'),
        ({"ttl": 5}, '"store.ttl" takes an object'),
        ({"ttl": {"default_ttl": 0}}, '"store.ttl.default_ttl" takes a number of minutes'),
        ({"ttl": {"default_ttl": True}}, '"store.ttl.default_ttl" takes a number of minutes'),
        ({"ttl": {"refresh_on_read": 1}}, '"store.ttl.refresh_on_read" takes true or false'),
        ({"ttl": {"omit_expired": False}}, '"store.ttl.omit_expired" takes true'),
        ({"ttl": {"sweep_interval_minutes": "1"}}, "sweep_interval_minutes"),
        ({"index": {"dims": 3}}, '"store.index" needs "embed"'),
        ({"index": {"embed": "a:b"}}, '"store.index" needs "dims"'),
        ({"index": {**INDEX, "embed": "embed"}}, '"store.index.embed" takes a text'),
        ({"index": {**INDEX, "embed": ":x"}}, '"store.index.embed" takes a text'),
        ({"index": {**INDEX, "dims": 0}}, '"store.index.dims" takes a whole number'),
        ({"index": {**INDEX, "dims": 16_001}}, '"store.index.dims" takes a whole number'),
        ({"index": {**INDEX, "fields": []}}, '"store.index.fields" takes a list of paths'),
        ({"index": {**INDEX, "fields": "text"}}, '"store.index.fields" takes a list of paths'),
        ({"index": {**INDEX, "model": "x"}}, 'unknown key "model"'),
    ],
    ids=str,
)
def test_parse__what_makes_no_sense(raw: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        stores.parse("langgraph.json", raw)

    assert str(raised.value).startswith('langgraph.json: "store')
    assert message in str(raised.value)
