"""What makes two requests the same one."""

from __future__ import annotations

import pytest

from trellis.domain.idempotency import Key, new_key
from trellis.errors import Invalid


def key(text: str = "k", **changed: object) -> Key:
    request = {"owner": "", "method": "POST", "path": "/threads", "body": b"{}", **changed}
    return new_key(text, **request)  # type: ignore[arg-type]  # a test's shorthand


def test_new_key() -> None:
    assert key() == key()
    assert len(key().fingerprint) == 64


@pytest.mark.parametrize(
    "changed", [{"method": "PUT"}, {"path": "/runs"}, {"body": b'{"a":1}'}, {"body": b""}]
)
def test_new_key__another_request(changed: dict[str, object]) -> None:
    assert key(**changed).fingerprint != key().fingerprint


def test_new_key__parts_do_not_run_into_each_other() -> None:
    assert key(path="/a", body=b"b").fingerprint != key(path="/ab", body=b"").fingerprint


@pytest.mark.parametrize("text", ["x", "a" * 255, '"quoted"', "!~"])
def test_new_key__accepted(text: str) -> None:
    assert key(text).text == text


@pytest.mark.parametrize("text", ["", " ", "a b", "a" * 256, "é", "a\n", "\t", "\x7f"])
def test_new_key__refused(text: str) -> None:
    with pytest.raises(Invalid, match="1 to 255 visible ASCII"):
        key(text)
