"""
How a channel's value lies in its rows: one full row, or a full row and what was appended since, row by row.

Writing the whole list at each step would make a conversation's size grow with the square of its length. Appending
one small row each time would make reading it slow. So rows are merged like the digits of a number: when seven rows
of one size class lie at the end, the next row replaces them by going back to the row before them. A list of n
elements is then read from at most `7 * log8(n)` rows, each element is written about log8(n) times, and once the
appended rows outweigh the full one, a full row is written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: Rows of one size class at the end of a chain before they are merged, plus one.
FANOUT = 8
#: Rows of a chain at most, whatever the sizes.
LONGEST = 32


class Link(NamedTuple):
    """One row of a chain."""

    version: str
    type: str
    data: bytes  #: as stored
    size: int = 0  #: bytes before compression; 0: not known yet
    end: int = 0  #: elements of the list up to and including this row


@dataclass(frozen=True, slots=True)
class Chain:
    """A channel's value at a version, as the rows that hold it, the full one first."""

    links: tuple[Link, ...]
    #: Of the elements, as `serde.fingerprint` sees them. None: nothing may be appended.
    digest: bytes | None = None

    @property
    def version(self) -> str:
        return self.links[-1].version

    @property
    def end(self) -> int:
        return self.links[-1].end

    @property
    def base_version(self) -> str | None:
        """The version that the last row builds on; None: it is the full row."""
        return self.links[-2].version if len(self.links) > 1 else None

    @property
    def bytes(self) -> int:
        return sum(len(link.data) for link in self.links)

    @property
    def appended(self) -> int:
        """Bytes of all rows but the full one, before compression."""
        return sum(link.size for link in self.links[1:])


def kept(links: Sequence[Link]) -> int:
    """How many rows of a chain the next one leaves in place; it repeats the elements of the others."""
    keep, length = len(links), FANOUT
    while (tail := _tail(links, keep, shorter_than=length)) >= FANOUT - 1:
        keep -= tail
        length *= FANOUT
    return keep if keep < LONGEST else 1


def _tail(links: Sequence[Link], stop: int, *, shorter_than: int) -> int:
    """How many rows before `stop` are short, counted from behind. The full row does not count."""
    at = stop
    while at > 1 and links[at - 1].end - links[at - 2].end < shorter_than:
        at -= 1
    return stop - at
