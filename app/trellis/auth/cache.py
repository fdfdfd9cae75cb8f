"""Users that were authenticated a moment ago, by what their requests were sent with."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from trellis.auth.request import Request
from trellis.domain.access import Principal

Key = tuple[str | None, ...]


class Cache:
    """At most `max_size` users, each for `ttl_seconds`. Requests that have the headers' values in common are one user's."""

    def __init__(self, headers: Sequence[str], *, ttl_seconds: float, max_size: int) -> None:
        self._headers = [name.lower() for name in headers]
        self._ttl = ttl_seconds
        self._max_size = max_size
        self._found: OrderedDict[Key, tuple[float, Principal]] = OrderedDict()
        self._lock = threading.Lock()

    def key(self, request: Request) -> Key:
        return tuple(request.header(name) for name in self._headers)

    def get(self, key: Key) -> Principal | None:
        """Whoever was known by the key; None: nobody, or too long ago."""
        with self._lock:
            until, found = self._found.get(key, (0.0, None))
        return found if time.monotonic() < until else None

    def put(self, key: Key, who: Principal) -> None:
        """Remember somebody, and forget whoever was remembered first. A request without credentials is not remembered."""
        if all(value is None for value in key):
            return
        with self._lock:
            self._found[key] = (time.monotonic() + self._ttl, who)
            self._found.move_to_end(key)
            while len(self._found) > self._max_size:
                self._found.popitem(last=False)
