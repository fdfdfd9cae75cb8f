"""Where a webhook may go."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from trellis.domain.webhooks import Policy, Target, check_address, parse, signature
from trellis.errors import Invalid

OPEN = Policy(disable_loopback=False)


def test_parse() -> None:
    assert parse("https://example.com/a%20b?c=d&e", Policy()) == Target(
        scheme="https", host="example.com", port=443, path="/a%20b?c=d&e"
    )


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://example.com", "example.com", "/"),
        ("http://example.com:80/x", "example.com", "/x"),
        ("https://example.com:80/x", "example.com:80", "/x"),
        ("http://[2606:4700::1]:8080/", "[2606:4700::1]:8080", "/"),
        ("http://Example.COM/ü?ö=ä#there", "example.com", "/%C3%BC?%C3%B6=%C3%A4"),
        ("http://bücher.example/", "xn--bcher-kva.example", "/"),
        ("http://example.com./", "example.com.", "/"),
    ],
)
def test_parse__what_is_sent(url: str, authority: str, path: str) -> None:
    target = parse(url, Policy())

    assert (target.authority, target.path) == (authority, path)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "Invalid webhook hostname ''"),
        ("/hook", "Invalid webhook hostname ''"),
        ("not a url", "Invalid webhook hostname ''"),
        ("http:///x", "Invalid webhook hostname ''"),
        ("//", "Invalid webhook hostname ''"),
        ("ftp://example.com/", "Webhook host blocked: scheme 'ftp' not allowed"),
        ("//example.com/", "Webhook host blocked: scheme '' not allowed"),
        ("gopher://example.com/", "Webhook host blocked: scheme 'gopher' not allowed"),
        ("http://u:p@example.com/", "Webhook host blocked: credentials in the URL not allowed"),
        ("http://u@example.com/", "Webhook host blocked: credentials in the URL not allowed"),
        ("http://@example.com/", "Webhook host blocked: credentials in the URL not allowed"),
        ("http://example.com/ a", "Invalid webhook URL"),
        ("http://example.com/\r\nX: y", "Invalid webhook URL"),
        ("http://exa\tmple.com/", "Invalid webhook URL"),
        ("http://example.com\\@evil.example/", "Invalid webhook URL|credentials"),
        ("http://example.com:99999/", "Invalid webhook URL"),
        ("http://example.com:x/", "Invalid webhook URL"),
        ("http://[::1/", "Invalid webhook URL"),
        ("http://" + "ü" * 64 + ".example/", "Invalid webhook URL"),
        ("http://example.com/" + "a" * 5000, "longer than 4096"),
    ],
)
def test_parse__refused(url: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        parse(url, Policy())


@pytest.mark.parametrize(
    ("policy", "good", "bad"),
    [
        ({"require_https": True}, "https://a.example", "http://a.example"),
        ({"allowed_ports": (443, 8443)}, "https://a.example:8443", "https://a.example:80"),
        ({"allowed_domains": ("a.example",)}, "http://A.example.", "http://b.a.example"),
        ({"allowed_domains": ("*.a.example",)}, "http://b.a.example", "http://a.example"),
        ({"allowed_domains": ("*.a.example",)}, "http://c.b.a.example", "http://xa.example"),
        ({"allowed_domains": ()}, "", "http://a.example"),
        ({"max_url_length": 20}, "http://a.example/abc", "http://a.example/abcd"),
    ],
)
def test_parse__policy(policy: dict[str, Any], good: str, bad: str) -> None:
    if good:
        parse(good, Policy(**policy))
    with pytest.raises(Invalid):
        parse(bad, Policy(**policy))


LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
PRIVATE = ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "fc00::1"]
PRIVATE += ["::ffff:10.0.0.1", "64:ff9b::a00:1"]
BLOCKED = ["0.0.0.0", "100.64.0.1", "169.254.169.254", "192.0.0.1", "198.18.0.1", "224.0.0.1"]
BLOCKED += ["255.255.255.255", "::", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "ff02::1"]
BLOCKED += ["2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "64:ff9b:1::1", "100::1"]
BLOCKED += ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fec0::1", "5f00::1"]
ON_THE_INTERNET = ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", LOOPBACK)
def test_check_address__loopback(address: str) -> None:
    with pytest.raises(Invalid, match="Webhook host blocked: loopback IP range"):
        check_address(address, Policy())
    check_address(address, OPEN)


@pytest.mark.parametrize("address", PRIVATE)
def test_check_address__private(address: str) -> None:
    with pytest.raises(Invalid, match="Webhook host blocked: blocked IP range"):
        check_address(address, Policy())
    check_address(address, OPEN)


@pytest.mark.parametrize("address", BLOCKED)
@pytest.mark.parametrize("policy", [Policy(), OPEN])
def test_check_address__never(address: str, policy: Policy) -> None:
    with pytest.raises(Invalid, match="Webhook host blocked: blocked IP range"):
        check_address(address, policy)


@pytest.mark.parametrize("address", ON_THE_INTERNET)
def test_check_address__open(address: str) -> None:
    check_address(address, Policy())


def test_signature() -> None:
    """The example of Standard Webhooks."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signed = signature(
        [key],
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
