from __future__ import annotations

from typing import Any

import pytest

from trellis.domain import places
from trellis.domain.places import START
from trellis.errors import BadRequest
from trellis.protocol import subscriptions
from trellis.protocol.translate import ProtocolEvent

ALLOWED = (
    "values, updates, messages, tools, custom, lifecycle, input, tasks, or any `custom:<name>`."
)


def event(method: str, *namespace: str, data: bytes = b"{}") -> ProtocolEvent:
    return ProtocolEvent(method, namespace, 0, data, "1-0")


def wants(body: dict[str, Any], given: ProtocolEvent) -> bool:
    return subscriptions.parse({"channels": ["values"], **body}).wants(given)


@pytest.mark.parametrize(
    ("channel", "given", "is_wanted"),
    [
        ("values", event("values"), True),
        ("values", event("updates"), False),
        ("input", event("input.requested"), True),
        ("custom", event("custom"), True),
        ("custom", event("custom", data=b'{"name":"a"}'), True),
        ("custom:a", event("custom", data=b'{"name":"a"}'), True),
        ("custom:b", event("custom", data=b'{"name":"a"}'), False),
        ("checkpoints", event("checkpoints"), True),
    ],
)
def test_wants__by_channel(channel: str, given: ProtocolEvent, is_wanted: bool) -> None:
    assert wants({"channels": ["tasks", channel]}, given) == is_wanted


@pytest.mark.parametrize(
    ("namespaces", "depth", "namespace", "is_wanted"),
    [
        (None, None, ["a:1", "b:2"], True),
        ([], None, ["a:1"], True),
        ([[]], None, ["a:1"], True),
        ([[]], 0, [], True),
        ([[]], 0, ["a:1"], False),
        ([[]], 1, ["a:1"], True),
        ([["a"]], None, [], False),
        ([["a"]], None, ["a:1"], True),
        ([["a:1"]], None, ["a:1", "b:2"], True),
        ([["a:1"]], None, ["a:2"], False),
        ([["a:1"]], 0, ["a:1", "b:2"], False),
        ([["a:1"]], 1, ["a:1", "b:2"], True),
        ([["b"], ["a", "b"]], None, ["a:1", "b:2"], True),
        ([["a", "c"]], None, ["a:1", "b:2"], False),
        # As the clients join their subscriptions to one.
        (None, 0, ["a:1"], True),
    ],
)
def test_wants__by_namespace(
    namespaces: Any, depth: int | None, namespace: list[str], is_wanted: bool
) -> None:
    body = {"namespaces": namespaces, "depth": depth}

    assert wants(body, event("values", *namespace)) == is_wanted


@pytest.mark.parametrize(
    ("since", "place"),
    [
        (None, START),
        (0, START),
        (places.seq(3, 7, 1), places.Place(3, 7, 1)),
        (float(places.seq(3, 7, 1)), places.Place(3, 7, 1)),
    ],
)
def test_parse__since(since: Any, place: places.Place) -> None:
    assert subscriptions.parse({"channels": ["values"], "since": since}).after == place


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ([], "The body must be an object with the channels to subscribe to"),
        ({}, "channels is required and must be a non-empty array"),
        ({"channels": []}, "channels is required and must be a non-empty array"),
        ({"channels": "values"}, "channels is required and must be a non-empty array"),
        (
            {"channels": ["bogus"]},
            f"channels contains unsupported entries: bogus. Allowed: {ALLOWED}",
        ),
        (
            {"channels": ["values", "custom:foo", "checkpoints", "debug"]},
            f"channels contains unsupported entries: debug. Allowed: {ALLOWED}",
        ),
        (
            {"channels": ["custom:", 7, None]},
            f"channels contains unsupported entries: custom:, 7, None. Allowed: {ALLOWED}",
        ),
    ],
    ids=str,
)
def test_parse__bad_channels(body: Any, detail: str) -> None:
    with pytest.raises(BadRequest) as refused:
        subscriptions.parse(body)

    assert refused.value.detail == detail


@pytest.mark.parametrize(
    "body",
    [
        {"namespaces": "child"},
        {"namespaces": ["child"]},
        {"namespaces": [[1]]},
        {"namespaces": [["a"] * 1_001]},
        {"namespaces": [[]] * 1_001},
        {"channels": ["values"] * 1_001},
        {"depth": -1},
        {"depth": 1.5},
        {"depth": True},
        {"since": "1"},
        {"since": -1},
    ],
    ids=lambda body: str(body)[:30],
)
def test_parse__bad_rest(body: Any) -> None:
    with pytest.raises(BadRequest):
        subscriptions.parse({"channels": ["values"], **body})
