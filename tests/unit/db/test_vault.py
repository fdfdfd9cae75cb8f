"""Encryption of single values: bound to their place, with keys that can be rotated, and never garbage."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from trellis.db.vault import Vault
from trellis.domain.encryption import Encryption
from trellis.errors import Invalid, Undecipherable

KEYS = (b"k" * 16, b"l" * 24, b"m" * 32)
WHERE = ("blob", "thread", "ns", 7, None)
SECRET = b"rattlesnake" * 20


def vault(*keys: bytes, names: str = "", is_required: bool = False) -> Vault:
    return Vault(Encryption(keys=keys, names=frozenset(names.split()), is_required=is_required))


@pytest.mark.parametrize("key", KEYS, ids=["128", "192", "256"])
def test_seal(key: bytes) -> None:
    sealed = vault(key).seal(SECRET, *WHERE)

    assert b"rattlesnake" not in sealed
    assert vault(key).open(memoryview(sealed), *WHERE) == SECRET
    assert sealed != vault(key).seal(SECRET, *WHERE)


@pytest.mark.parametrize(
    "where",
    [
        ("blob", "thread", "ns", 8, None),
        ("blob", "thread", "ns", "7", None),
        ("blob", "thread", "ns", 7, "None"),
        ("blob", "threa", "dns", 7, None),
        ("write", "thread", "ns", 7, None),
        (),
    ],
)
def test_open__in_another_place(where: Any) -> None:
    sealed = vault(KEYS[2]).seal(SECRET, *WHERE)

    with pytest.raises(Undecipherable, match="was changed, or it comes from another row"):
        vault(KEYS[2]).open(sealed, *where)


def test_open__changed() -> None:
    """Whichever byte it is; one that changes the key's id asks for a key that nobody has."""
    sealed = vault(KEYS[2]).seal(b"short", *WHERE)

    for at in range(1, len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(Undecipherable):
            vault(KEYS[2]).open(changed, *WHERE)


def test_open__cut_off() -> None:
    sealed = vault(KEYS[2]).seal(b"short", *WHERE)

    for length in range(1, len(sealed)):
        with pytest.raises(Undecipherable):
            vault(KEYS[2]).open(sealed[:length], *WHERE)


def test_open__with_an_older_key() -> None:
    old = vault(KEYS[0]).seal(SECRET, *WHERE)
    rotated = vault(KEYS[2], KEYS[0])

    assert rotated.open(old, *WHERE) == SECRET
    assert vault(KEYS[2]).open(rotated.seal(SECRET, *WHERE), *WHERE) == SECRET


@pytest.mark.parametrize("keys", [(), (KEYS[1],)], ids=["no key", "another"])
def test_open__without_the_key(keys: Any) -> None:
    sealed = vault(KEYS[2]).seal(SECRET, *WHERE)
    text = vault(KEYS[2]).seal_json('{"a": 1}', *WHERE) or ""
    hint = "does not have. Set it as LANGGRAPH_AES_KEY, or add it to LANGGRAPH_AES_FALLBACK_KEYS"

    with pytest.raises(Undecipherable, match=hint):
        vault(*keys).open(sealed, *WHERE)
    with pytest.raises(Undecipherable, match=hint):
        vault(*keys).open_json(json.loads(text), *WHERE)


def test_seal__without_a_key() -> None:
    off = vault()

    assert off.seal(SECRET, *WHERE) is SECRET
    assert off.seal_json('{"a": 1}', *WHERE) == '{"a": 1}'
    assert off.seal_text("t", *WHERE) == "t"
    assert (
        off.hide({"a": 1}, model="run")
        == {"a": 1}
        == off.show({"a": 1}, model="run")
        == off.open_json({"a": 1}, *WHERE)
    )


def test_open__plain_rows_are_read_unless_that_is_refused() -> None:
    on, strict = vault(KEYS[2]), vault(KEYS[2], is_required=True)

    assert on.open(b"rplain", *WHERE) == b"rplain"
    assert on.open_json({"a": 1}, *WHERE) == {"a": 1}
    with pytest.raises(Undecipherable, match="is not encrypted, and TRELLIS_AES_REQUIRED"):
        strict.open(b"rplain", *WHERE)
    with pytest.raises(Undecipherable, match="is not encrypted, and TRELLIS_AES_REQUIRED"):
        strict.open_json({"a": 1}, *WHERE)
    assert strict.open_json({"a": 1}, *WHERE, may_be_plain=True) == {"a": 1}


def test_json() -> None:
    on = vault(KEYS[2])
    text = on.seal_json('{"a": [1, "rattlesnake"]}', *WHERE) or ""

    assert "rattlesnake" not in text
    assert list(json.loads(text)) == ["$sealed"]
    assert on.open_json(json.loads(text), *WHERE) == {"a": [1, "rattlesnake"]}
    with pytest.raises(Undecipherable):
        on.open_json(json.loads(text), *WHERE, "more")
    assert on.seal_json("{}", *WHERE) == "{}"
    assert on.seal_json(None, *WHERE) is None


@pytest.mark.parametrize("forged", ["", "!", "plain", None, 3, base64.b64encode(b"x").decode()])
def test_json__that_only_pretends(forged: Any) -> None:
    with pytest.raises(Undecipherable):
        vault(KEYS[2]).open_json({"$sealed": forged}, *WHERE)


def test_text() -> None:
    on = vault(KEYS[2])
    sealed = on.seal_text("rattlesnake \ud800", *WHERE) or ""

    assert "rattlesnake" not in sealed
    assert on.open_text(sealed, *WHERE) == "rattlesnake ?"
    assert on.open_text("plain", *WHERE) == "plain"


def test_hide() -> None:
    on = vault(KEYS[2], names="api_key pin")
    data = {"owner": "a", "api_key": "rattlesnake", "deep": [{"pin": {"x": 1}, "pain": None}]}

    hidden = on.hide({**data, "pin": None}, model="run")

    assert "rattlesnake" not in json.dumps(hidden)
    assert hidden["owner"] == "a"
    assert hidden["pin"] is None
    assert list(hidden["deep"][0]["pin"]) == ["$sealed"]
    assert on.show(hidden, model="run") == {**data, "pin": None}
    # Names that were left out later, or an older key.
    assert vault(KEYS[0], KEYS[2]).show(hidden, model="run") == {**data, "pin": None}


def test_hide__a_value_opens_under_its_key_only() -> None:
    on = vault(KEYS[2], names="a b")

    with pytest.raises(Undecipherable):
        on.show({"b": on.hide({"a": 1}, model="run")["a"]}, model="run")


def test_hide__refuses_what_pretends_to_be_encrypted() -> None:
    with pytest.raises(Invalid, match=r"only the server may use"):
        vault(KEYS[2]).hide({"a": [{"$sealed": "x"}]}, model="run")


def test_check_search() -> None:
    on = vault(KEYS[2], names="pin")

    on.check_search({"a": {"pain": 1}}, model="run")
    with pytest.raises(Invalid, match="'pin' is encrypted"):
        on.check_search({"a": [{"pin": 1}]}, model="run")


def test_repr__shows_no_key() -> None:
    assert "kkkk" not in repr(Encryption(keys=(KEYS[0],)))
