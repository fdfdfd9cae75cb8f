"""Names, and numbers in every spelling, come down to addresses, and those are judged."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from trellis.domain.webhooks import Policy, Webhooks
from trellis.errors import Invalid
from trellis.services import webhooks

OPEN = Policy(disable_loopback=False)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "①②⑦.⓪.⓪.①",
    ],
)
def test_resolve__every_spelling_of_loopback(host: str) -> None:
    with pytest.raises(Invalid, match="loopback IP range"):
        webhooks.resolve(f"http://{host}:9/", Policy())

    assert webhooks.resolve(f"http://{host}:9/", OPEN)[1]


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "[64:ff9b::a9fe:a9fe]"])
def test_resolve__metadata_service(host: str) -> None:
    with pytest.raises(Invalid, match="blocked IP range"):
        webhooks.resolve(f"http://{host}/latest/meta-data/", OPEN)


def test_resolve__no_such_host() -> None:
    with pytest.raises(Invalid, match="Webhook host blocked: DNS resolution failed"):
        webhooks.resolve("http://nobody.invalid/", Policy())


def test_resolve__one_bad_address_among_good_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, "1.1.1.1", "127.0.0.1")

    with pytest.raises(Invalid, match="loopback IP range"):
        webhooks.resolve("http://rebound.example/", Policy())


def test_resolve__what_was_judged_is_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the name means something else at the second look, and nobody looks twice."""
    answers = iter(["1.1.1.1", "127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [found(next(answers))])

    _, addresses = webhooks.resolve("http://rebound.example/", Policy())

    assert addresses == ["1.1.1.1"]


def test_check__all_of_a_batch() -> None:
    webhooks.check(Webhooks(), [None, None])
    with pytest.raises(Invalid):
        webhooks.check(Webhooks(), [None, "http://127.0.0.1/"])


def test_check__names_that_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with very many of them does not keep its thread for as many times as long."""
    looked_up: list[str] = []

    def slowly(host: str, *_: Any, **__: Any) -> list[Any]:
        looked_up.append(host)
        return [found("1.1.1.1")]

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    monkeypatch.setattr(webhooks, "monotonic", lambda: 2.9 * len(looked_up))

    with pytest.raises(Invalid, match="DNS resolution failed"):
        webhooks.check(Webhooks(), [f"http://{n}.example/" for n in range(100)])

    assert len(looked_up) == 4


def answer_with(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    answer = [found(address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)


def found(address: str) -> tuple[Any, ...]:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
