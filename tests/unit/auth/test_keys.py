"""API keys: entries, and who holds one."""

from __future__ import annotations

import pytest

from trellis.auth import keys
from trellis.errors import ConfigError


def test_new() -> None:
    key, entry = keys.new("alice", "acme")

    found = keys.holder(keys.parse(entry), key)

    assert found is not None
    assert (found.tenant_id, found.identity) == ("acme", "alice")
    assert key not in entry


def test_holder__nobody() -> None:
    known = keys.parse(keys.new("alice", None)[1])

    assert keys.holder(known, "") is None
    assert keys.holder(known, "\udcff") is None
    assert keys.holder((), "a") is None


def test_parse__several() -> None:
    first, second = keys.new("a", None), keys.new("b", "t")

    known = keys.parse(f" {first[1]},\n{second[1]} ")

    assert [(key.tenant_id, key.name) for key in known] == [("default", "a"), ("t", "b")]


@pytest.mark.parametrize("text", ["secret", "a=sha256:ab", f"a b=sha256:{'0' * 64}", ",", "a=,b"])
def test_parse__no_entry(text: str) -> None:
    with pytest.raises(ConfigError, match="TRELLIS_API_KEYS: entry 1") as caught:
        keys.parse(text)
    assert "secret" not in str(caught.value)


def test_new__no_name() -> None:
    with pytest.raises(ConfigError):
        keys.new("a/b=c", None)
