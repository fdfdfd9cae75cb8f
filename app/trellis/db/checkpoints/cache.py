"""Channel values this process has read or written lately, as their rows: reading them again costs no query."""

from __future__ import annotations

import threading
from collections import OrderedDict

from trellis.db.checkpoints.chain import Chain

#: thread, namespace, channel
Place = tuple[str, str, str]

#: What an entry costs besides its rows: keys, tuples, the place in the dict.
_OVERHEAD_BYTES = 600


class Cache:
    """
    The latest version of each channel, up to `max_bytes`, the least recently used forgotten first.

    It holds serialised rows, never objects: nothing a node does to what it was given can reach another run.
    A version names one content for ever, so that an entry may be outdated but never wrong.
    """

    def __init__(self, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._chains: OrderedDict[Place, Chain] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, place: Place, version: str) -> Chain | None:
        """The rows of that very version."""
        with self._lock:
            chain = self._chains.get(place)
            if chain is None or chain.version != version:
                return None
            self._chains.move_to_end(place)
            return chain

    def put(self, place: Place, chain: Chain) -> None:
        """Keep a chain instead of an older one. What nobody asked for longest goes when it is too much."""
        with self._lock:
            old = self._chains.pop(place, None)
            self._bytes += _cost(chain) - (_cost(old) if old else 0)
            self._chains[place] = chain
            while self._bytes > self._max_bytes:
                _, dropped = self._chains.popitem(last=False)
                self._bytes -= _cost(dropped)

    @property
    def bytes(self) -> int:
        return self._bytes


def _cost(chain: Chain) -> int:
    return chain.bytes + _OVERHEAD_BYTES
