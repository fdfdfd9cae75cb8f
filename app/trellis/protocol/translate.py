"""From the entries of a run's log to the events of protocol v2. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trellis.stream.entries import Item


class ProtocolEvent(NamedTuple):
    """One event, but for its `seq`."""

    method: str
    namespace: tuple[str, ...]
    timestamp: int  #: milliseconds since the epoch
    data: bytes  #: JSON
    event_id: str


class Translator:
    """Turns what one run's log says into events. One per run and reader, fed from the log's beginning."""

    def __init__(self, run_id: str, graph_name: str) -> None:
        self._run_id = run_id
        self._graph_name = graph_name

    def feed(self, item: Item) -> Sequence[ProtocolEvent]:
        """The events that the next item of the log makes, in order."""
        raise NotImplementedError
