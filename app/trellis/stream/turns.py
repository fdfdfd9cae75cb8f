"""Several streams of numbered events on one connection, in one order."""

from __future__ import annotations

import asyncio

#: A stream that says nothing for so long holds up nobody until it says something, in seconds.
_PATIENCE = 5.0


class Turns:
    """What each stream will say next at the earliest. The one that has the lowest number to say has its turn."""

    __slots__ = ("_moved", "_next", "_patience", "_speaking")

    def __init__(self, *, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._next: dict[str, int] = {}
        self._speaking: set[str] = set()
        self._moved: asyncio.Event | None = None  #: while somebody waits

    def move(self, stream: str, seq: int) -> None:
        """A stream, which may be new, says nothing any more that is below a number."""
        self._next[stream] = max(seq, self._next.get(stream, 0))
        self._speaking.discard(stream)
        self._wake()

    def leave(self, stream: str) -> None:
        """A stream says nothing any more."""
        self._next.pop(stream, None)
        self._speaking.discard(stream)
        self._wake()

    async def take(self, stream: str, seq: int) -> None:
        """
        Wait until no other stream may still say something below the number that this one says now.

        It speaks until it moves: it is waited for, however slow the client is.
        """
        self.move(stream, seq)
        self._speaking.add(stream)
        while before := self._before(seq):
            try:
                self._moved = self._moved or asyncio.Event()
                async with asyncio.timeout(self._patience):
                    await self._moved.wait()
            except TimeoutError:
                for each in set(before) - self._speaking:
                    self.leave(each)

    def _before(self, seq: int) -> list[str]:
        return [stream for stream, each in self._next.items() if each < seq]

    def _wake(self) -> None:
        if self._moved is not None:
            self._moved.set()
            self._moved = None
