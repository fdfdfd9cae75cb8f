"""What a webhook's URL leads to, asked when a run is created and before each delivery; and what became of it."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Any

from trellis.db import webhooks as rows
from trellis.domain.webhooks import Policy, Target, Webhooks, check_address, parse, unresolved
from trellis.errors import NotFound
from trellis.runtime import Runtime

#: `getaddrinfo` takes no timeout, and a resolver that does not answer must not hold up a request.
_RESOLVE_SECONDS = 3.0
#: For all URLs of a request together: a batch may name a hundred hosts, and each of them may take its time.
_REQUEST_SECONDS = 10.0


def check(webhooks: Webhooks, urls: Iterable[str | None]) -> None:
    """
    Refuse URLs to which nothing could be delivered.

    :raises Invalid: says why.
    """
    until = monotonic() + _REQUEST_SECONDS
    for url in dict.fromkeys(url for url in urls if url is not None):
        resolve(url, webhooks.policy, seconds=until - monotonic())


def report(rt: Runtime, tenant_id: str, run_id: str) -> Mapping[str, Any]:
    """
    The delivery of a run's webhook: its state, and every attempt.

    :raises NotFound: the run has none, has not ended, or ended so long ago that it is forgotten.
    """
    with rt.autocommit.connect() as tx:
        row = rows.find(tx, tenant_id, run_id)
    if row is None:
        raise NotFound("There is no webhook of this run to tell of")
    return row


def resolve(
    url: str, policy: Policy, *, seconds: float = _RESOLVE_SECONDS
) -> tuple[Target, Sequence[str]]:
    """
    Where a URL leads, and the addresses to connect to: these, and not what the name means a moment later.

    :raises Invalid: the policy forbids the URL, or one of its host's addresses; or there are none, or not in time.
    """
    target = parse(url, policy)
    addresses = _addresses(target.host, target.port, seconds=min(seconds, _RESOLVE_SECONDS))
    for address in addresses:
        check_address(address, policy)
    return target, addresses


def _addresses(host: str, port: int, *, seconds: float) -> Sequence[str]:
    if seconds <= 0:
        raise unresolved()
    answer: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        answer.put(list(dict.fromkeys(str(info[4][0]) for info in found)))

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty:
        found = []
    if not found:
        raise unresolved()
    return found
