"""
Where something happened on a thread: an order over all its runs that no process has to keep.

A thread counts the claims of its runs in Postgres (the fence), and an attempt counts what it sends (n). The pair rises
from run to run and from attempt to attempt, whichever web process reads and whatever Redis has forgotten: unlike the
ids of Redis, which two runs may share, and which the end of one may have after the start of the next.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Bits of a sequence number for n, and for the events that one entry of a log becomes. With what is left for the
#: fence it stays below 2**53, up to which JavaScript's numbers are exact, for two million claims of a thread.
_N_BITS, _K_BITS = 22, 10
#: The n of the end of an attempt, which Postgres tells as well: it does not know how much was sent before.
END: int = 2**_N_BITS - 1
_LAST_K: int = 2**_K_BITS - 1

_ID = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?", re.ASCII)


class Place(NamedTuple):
    """Behind an event. Places compare as the events happened."""

    fence: int
    n: int
    k: int = _LAST_K  #: which event of a log's entry; the last one, unless entries become several


#: Before everything.
START = Place(0, 0)


def seq(fence: int, n: int, k: int) -> int:
    """The sequence number of an event. An attempt of millions of entries repeats the last number."""
    return ((fence << _N_BITS | min(n, END)) << _K_BITS) | min(k, _LAST_K)


def place_of_seq(number: int) -> Place:
    """What a sequence number stands for."""
    rest, k = divmod(number, 1 << _K_BITS)
    fence, n = divmod(rest, 1 << _N_BITS)
    return Place(fence, n, k)


def place_of_id(last_event_id: str) -> Place | None:
    """Where to go on after a `Last-Event-ID`: `-` is the start. None means that it is no id."""
    if last_event_id == "-":
        return START
    found = _ID.fullmatch(last_event_id)
    return found and Place(int(found[1]), int(found[2] or 0))


def event_id(fence: int, n: int) -> bytes:
    """The id of an event of the thread's stream."""
    return b"%d-%d" % (fence, n)
