"""What a follower of a run sees, and how the entries of a log become it. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias


class Event(NamedTuple):
    """One event of the run, as bytes that lack only an id and the empty line (`sse.closed`)."""

    id: bytes
    name: str
    frame: bytes
    fence: int = 0  #: of the attempt that sent it
    n: int = 0  #: its number within that attempt


class Beat:
    """Nothing happened for a while: show the client that the connection lives."""


class Gap:
    """Events before this point are lost; the caller may send the state instead."""


@dataclass(frozen=True, slots=True)
class End:
    """The run is over. Nothing follows."""

    status: str | None  #: None: there is no such run any more
    values: bytes | None  #: final values as JSON; None: read them from Postgres
    in_log: bool = True  #: False: Postgres alone says so, and the log may have lost more than that
    fence: int = 0  #: of the attempt that ended; 0: unknown
    is_paused: bool = False  #: the graph waits at a node; False also where that is not known
    at: int | None = field(default=None, compare=False)  #: ms since the epoch; None: unknown

    @property
    def is_told(self) -> bool:
        """Whether the log says how it ended. Values that are too large for the end have been told before it."""
        return self.values is not None or (self.in_log and self.status != "error")


Item: TypeAlias = Event | Beat | Gap | End

BEAT = Beat()
GAP = Gap()

#: An entry as Redis returns it: its id, then field, value, field, value, …
Entry: TypeAlias = Sequence[Any]


@dataclass(slots=True)
class Position:
    """How far somebody has read a log: which entry, of which attempt."""

    id: bytes = b"0"
    fence: int = 0
    #: The last entry's number in its attempt. None: whatever comes next is not missing anything.
    n: int | None = 0

    def copy(self) -> Position:
        return Position(self.id, self.fence, self.n)

    @property
    def order(self) -> tuple[int, int]:
        return order(self.id)

    def advance(self, entries: Iterable[Entry]) -> list[Item]:
        """Read on. Entries of a replaced attempt and entries seen before are passed over."""
        items: list[Item] = []
        for entry_id, fields in entries:
            self.id = entry_id
            if len(fields) < 6 or fields[0] != b"f":
                continue
            fence, n = int(fields[1]), int(fields[3])
            if fence < self.fence:
                continue
            if self.n is not None:
                before = self.n if fence == self.fence else 0
                if n <= before:
                    continue
                if n > before + 1:
                    items.append(GAP)
            self.fence, self.n = fence, n
            if fields[4] == b"e":
                items.append(Event(entry_id, _name(fields[5]), fields[7], fence, n))
            else:
                status, _, paused = _name(fields[5]).partition(" ")
                values = fields[7] if len(fields) > 7 else None
                end = End(
                    status or None, values, fence=fence, is_paused=bool(paused), at=self.order[0]
                )
                items.append(end)
                break
        return items


def order(entry_id: bytes) -> tuple[int, int]:
    """Entry ids in the order of the log."""
    ms, _, n = entry_id.partition(b"-")
    return int(ms), int(n or 0)


def size(items: Iterable[Item]) -> int:
    """Bytes that the items hold, about."""
    return sum(_weight(item) for item in items)


def _weight(item: Item) -> int:
    if isinstance(item, Event):
        return len(item.frame)
    return len(item.values or b"") if isinstance(item, End) else 0


@lru_cache(maxsize=4096)
def _name(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
