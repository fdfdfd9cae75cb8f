"""Tell a receiver that a run ended: one POST, to an address that was looked at, within a fixed time."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import trellis
from trellis.domain.webhooks import Target, Webhooks, signature
from trellis.errors import TrellisError
from trellis.services.webhooks import resolve

#: Longest to wait for a connection, and for everything together, in seconds.
_CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 15.0


class Refused(TrellisError):
    """The receiver answered, and not with 2xx. A redirect is no delivery either."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(f"HTTP status {status}")
        self.is_final = status == http.HTTPStatus.GONE
        #: What the receiver asks for; dates are not understood.
        self.pause_seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


def send(webhooks: Webhooks, *, url: str, run_id: str, body: bytes, at: float) -> None:
    """
    POST a JSON body. What the receiver says beyond its status is not read.

    The URL is resolved and judged again: since the run was created the name may have come to mean another host.

    :raises Invalid: nothing may be sent there any more.
    :raises Refused: another status than 2xx.
    :raises OSError: no connection, or not in time.
    :raises http.client.HTTPException: what came back is not HTTP.
    """
    target, addresses = resolve(url, webhooks.policy)
    with _connected(target, addresses) as channel, _limited(channel):
        headers = _headers(webhooks, run_id, body, at=int(at))
        status, retry_after = _post(_secured(channel, target), target, body, headers)
    if not 200 <= status < 300:
        raise Refused(status, retry_after)


def _headers(webhooks: Webhooks, run_id: str, body: bytes, *, at: int) -> Mapping[str, str]:
    signed = {
        "webhook-signature": signature(webhooks.secrets, webhook_id=run_id, timestamp=at, body=body)
    }
    return {
        **webhooks.headers,
        **(signed if webhooks.secrets else {}),
        "Content-Type": "application/json",
        "User-Agent": f"trellis/{trellis.__version__}",
        # The same for every attempt: how a receiver tells a repetition.
        "webhook-id": run_id,
        "webhook-timestamp": str(at),
        "Connection": "close",
    }


def _post(
    channel: socket.socket, target: Target, body: bytes, headers: Mapping[str, str]
) -> tuple[int, str | None]:
    # It gets a socket and never connects by itself: no proxy, no second look into the DNS.
    with closing(http.client.HTTPConnection(target.host, target.port)) as connection:
        connection.sock = channel
        connection.request("POST", target.path, body, {"Host": target.authority, **headers})
        response = connection.getresponse()
        return response.status, response.getheader("Retry-After")


@contextmanager
def _connected(target: Target, addresses: Sequence[str]) -> Iterator[socket.socket]:
    """A connection to the first address that accepts one."""
    until = time.monotonic() + _CONNECT_SECONDS
    failure: OSError = OSError("no address")
    for address in addresses:
        left = max(until - time.monotonic(), 0.1)
        try:
            channel = socket.create_connection((address, target.port), timeout=left)
        except OSError as error:
            failure = error
            continue
        with closing(channel):
            yield channel
        return
    raise failure


@contextmanager
def _limited(channel: socket.socket) -> Iterator[None]:
    """A timeout of the socket is one for each byte: this one is for all, however slowly they come."""
    channel.settimeout(TOTAL_SECONDS)
    # Its own descriptor: wrapping in TLS takes the socket's away.
    other = channel.dup()
    timer = threading.Timer(TOTAL_SECONDS - _CONNECT_SECONDS, _cut, (other,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        other.close()


def _cut(channel: socket.socket) -> None:
    with contextlib.suppress(OSError):
        channel.shutdown(socket.SHUT_RDWR)


def _secured(channel: socket.socket, target: Target) -> socket.socket:
    if target.scheme == "http":
        return channel
    return ssl.create_default_context().wrap_socket(channel, server_hostname=target.host)
