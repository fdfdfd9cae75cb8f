"""The keys in the environment: which forms they may have, and that none is ever told."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from trellis.domain.encryption import Encryption
from trellis.errors import ConfigError
from trellis.graphs.encryption import parse

KEY = "0123456789abcdef"
OLD = "fedcba9876543210" * 2
BYTES = bytes(range(200, 232))


def of(raw: object = None, **environ: str) -> Encryption:
    return parse("langgraph.json", raw, environ=environ)


def test_parse__nothing() -> None:
    assert of() == Encryption()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (KEY, KEY.encode()),
        (KEY + "12345678", b"0123456789abcdef12345678"),
        (OLD, OLD.encode()),
        ("kéy456789012345", "kéy456789012345".encode()),
        ("base64:" + base64.b64encode(BYTES).decode(), BYTES),
        ("a text base64:12", b"a text base64:12"),
    ],
)
def test_parse__forms_of_a_key(text: str, key: bytes) -> None:
    assert of(LANGGRAPH_AES_KEY=text).keys == (key,)


@pytest.mark.parametrize(
    "text",
    ["short", KEY + "0", "base64:AAAA", "base64:é" + KEY, "base64:" + "A" * 31, KEY + KEY + "x"],
)
def test_parse__what_is_no_key(text: str) -> None:
    with pytest.raises(ConfigError, match="LANGGRAPH_AES_KEY must be 16, 24 or 32") as refused:
        of(LANGGRAPH_AES_KEY=text)

    assert text not in str(refused.value)


def test_parse__older_keys() -> None:
    found = of(
        LANGGRAPH_AES_KEY=KEY,
        LANGGRAPH_AES_FALLBACK_KEYS=f"{OLD}, {KEY}",
        LANGGRAPH_AES_LEGACY_KEY=OLD,
        TRELLIS_AES_REQUIRED="true",
    )

    assert found.keys == (KEY.encode(), OLD.encode())
    assert found.is_required
    with pytest.raises(ConfigError, match="LANGGRAPH_AES_FALLBACK_KEYS must be"):
        of(LANGGRAPH_AES_KEY=KEY, LANGGRAPH_AES_FALLBACK_KEYS="x")


def test_parse__names() -> None:
    found = of(LANGGRAPH_AES_KEY=KEY, LANGGRAPH_AES_JSON_KEYS="api_key, pin,")

    assert found.names == {"api_key", "pin"}
    with pytest.raises(ConfigError, match="needs to read 'graph_id'"):
        of(LANGGRAPH_AES_KEY=KEY, LANGGRAPH_AES_JSON_KEYS="api_key,graph_id")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LANGGRAPH_AES_JSON_KEYS", "a"),
        ("LANGGRAPH_AES_FALLBACK_KEYS", KEY),
        ("TRELLIS_AES_REQUIRED", "1"),
    ],
)
def test_parse__nothing_works_without_a_key(name: str, value: str) -> None:
    """Nobody may believe that plain rows are encrypted."""
    with pytest.raises(ConfigError, match=f"{name} needs LANGGRAPH_AES_KEY"):
        of(**{name: value})


def test_parse__handlers() -> None:
    assert of({"path": "./e.py:encryption"}) == Encryption(path="./e.py:encryption")
    assert of({"path": "e:x"}, LANGGRAPH_AES_KEY=KEY).keys


@pytest.mark.parametrize("raw", ["e", [], {"path": 1}, {"path": "e:x", "paths": 1}])
def test_parse__what_names_no_handlers(raw: Any) -> None:
    with pytest.raises(ConfigError, match=r'"encryption" takes \{"path"'):
        of(raw)


def test_parse__a_flag_that_is_none() -> None:
    with pytest.raises(ConfigError, match="TRELLIS_AES_REQUIRED must be true or false"):
        of(LANGGRAPH_AES_KEY=KEY, TRELLIS_AES_REQUIRED="perhaps")
