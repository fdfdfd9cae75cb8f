"""Where a webhook may go, what it tells, and how it is signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, urlsplit

from trellis.errors import Invalid

#: Explicit lists: `is_private` and `is_global` are wrong about some of these (RFC 6598, NAT64, 6to4, multicast).
_BLOCKED_4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_PRIVATE_4 = [IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
_LOOPBACK_4 = IPv4Network("127.0.0.0/8")
_PRIVATE_6 = IPv6Network("fc00::/7")
#: Outside of this, nothing is a host on the internet …
_GLOBAL_6 = IPv6Network("2000::/3")
#: … and inside, these are not: IETF protocols with Teredo, documentation, 6to4.
_BLOCKED_6 = [
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
#: Addresses that stand for an IPv4 one: NAT64, and IPv4-mapped.
_EMBEDDING = [IPv6Network("64:ff9b::/96"), IPv6Network("::ffff:0:0/96")]

_NO_URL = re.compile(r"[\x00-\x20\x7f\\]")
_PORTS = {"http": 80, "https": 443}


#: What a body may have, in its order.
FIELDS = (
    "run_id",
    "thread_id",
    "assistant_id",
    "metadata",
    "status",
    "kwargs",
    "multitask_strategy",
    "created_at",
    "updated_at",
    "langsmith_session_name",
    "cancel_reason",
    "run_started_at",
    "run_ended_at",
    "webhook_sent_at",
    "values",
    "error",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """`webhooks.url` of langgraph.json."""

    require_https: bool = False
    allowed_domains: tuple[str, ...] | None = None  #: "example.com", or "*.example.com"
    allowed_ports: tuple[int, ...] | None = None
    max_url_length: int = 4096
    disable_loopback: bool = True  #: False opens loopback and private networks


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhooks:
    """`webhooks` of langgraph.json."""

    policy: Policy = field(default_factory=Policy)
    headers: Mapping[str, str] = field(default_factory=dict)  #: sent with every delivery
    fields: tuple[str, ...] | None = None  #: of the body; None means all
    disabled: bool = False  #: runs may name webhooks, and nobody is told
    secrets: tuple[bytes, ...] = field(default=(), repr=False)  #: each signs every delivery


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A URL that the rules allow, as far as one can tell without asking the DNS."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What goes into the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, policy: Policy) -> Target:
    """
    Take a URL apart.

    :raises Invalid: the policy forbids it.
    """
    if len(url) > policy.max_url_length:
        raise Invalid(f"Webhook URL is longer than {policy.max_url_length} characters")
    try:
        parts = urlsplit(url)
        host, port = _host(parts.hostname or ""), parts.port
    except ValueError:
        raise Invalid(f"Invalid webhook URL {url[:200]!r}") from None
    # A relative URL has no host either: nothing is ever delivered within the process.
    if not host:
        raise Invalid("Invalid webhook hostname ''")
    if _NO_URL.search(url):
        raise Invalid(f"Invalid webhook URL {url[:200]!r}")
    if parts.scheme not in (("https",) if policy.require_https else _PORTS):
        raise _blocked(f"scheme {parts.scheme!r} not allowed")
    if parts.username is not None or parts.password is not None:
        raise _blocked("credentials in the URL not allowed")
    port = _PORTS[parts.scheme] if port is None else port
    if policy.allowed_ports is not None and port not in policy.allowed_ports:
        raise _blocked(f"port {port} not allowed")
    if policy.allowed_domains is not None and not _is_among(host, policy.allowed_domains):
        raise _blocked("domain not allowed")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Target(
        scheme=parts.scheme, host=host, port=port, path=f"{path}?{query}" if query else path
    )


def check_address(text: str, policy: Policy) -> None:
    """
    Look at an address that a webhook's host has.

    :raises Invalid: nothing may be sent there.
    """
    kind = _kind(ip_address(text.partition("%")[0]))
    if kind == "blocked" or (kind == "private" and policy.disable_loopback):
        raise _blocked("blocked IP range")
    if kind == "loopback" and policy.disable_loopback:
        raise _blocked("loopback IP range")


def signature(secrets: Sequence[bytes], *, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of webhook-signature: one for each secret, so that receivers can change theirs in peace."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(key, signed, hashlib.sha256) for key in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def unresolved() -> Invalid:
    """What to raise for a host that has no address."""
    return _blocked("DNS resolution failed")


def _blocked(reason: str) -> Invalid:
    return Invalid(f"Webhook host blocked: {reason}")


def _host(name: str) -> str:
    """As the DNS knows it. UnicodeError is a ValueError: no host can be called so."""
    return name if name.isascii() else name.encode("idna").decode()


def _is_among(host: str, domains: tuple[str, ...]) -> bool:
    host = host.lower().rstrip(".")
    return any(
        host.endswith(domain[1:]) if domain.startswith("*.") else host == domain
        for domain in map(str.lower, domains)
    )


def _kind(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address):
        return _kind_6(address)
    if address in _LOOPBACK_4:
        return "loopback"
    if any(address in network for network in _PRIVATE_4):
        return "private"
    return "blocked" if any(address in network for network in _BLOCKED_4) else "open"


def _kind_6(address: IPv6Address) -> str:
    if any(address in network for network in _EMBEDDING):
        return _kind(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.is_loopback:
        return "loopback"
    if address in _PRIVATE_6:
        return "private"
    is_open = address in _GLOBAL_6 and not any(address in network for network in _BLOCKED_6)
    return "open" if is_open else "blocked"
