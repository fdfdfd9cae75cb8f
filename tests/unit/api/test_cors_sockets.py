from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trellis.api import cors
from trellis.domain.http import ANYBODY


def handshake(**headers: str) -> dict[str, Any]:
    return {"headers": [(name.encode(), text.encode()) for name, text in headers.items()]}


@pytest.mark.parametrize(
    ("headers", "has_cookie"),
    [
        ({"cookie": "a=1", "host": "a.example"}, True),
        ({"cookie": "a=1", "host": "a.example", "origin": "https://a.example"}, True),
        ({"cookie": "a=1", "host": "a.example", "origin": "https://b.example"}, False),
        ({"cookie": "a=1", "host": "a.example", "origin": "null"}, False),
    ],
)
def test_for_socket__cookies_of_pages_of_other_sites(
    headers: dict[str, str], has_cookie: bool
) -> None:
    seen = dict(cors.for_socket(ANYBODY, handshake(**headers))["headers"])

    assert (b"cookie" in seen) == has_cookie
    assert seen[b"host"] == b"a.example"


def test_for_socket__cookies_that_the_operator_lets_through() -> None:
    trusting = replace(ANYBODY, allow_origins=("https://b.example",), allow_credentials=True)
    scope = handshake(cookie="a=1", host="a.example", origin="https://b.example")

    assert cors.for_socket(trusting, scope) is scope
