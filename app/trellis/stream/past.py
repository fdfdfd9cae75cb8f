"""What a run's log holds by now, for whoever does not follow it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from trellis import telemetry
from trellis.stream import log
from trellis.stream.entries import Entry, Item, Position

#: Entries that are here at once.
_PAGE = 200


def items(client: Redis, prefix: str, run_id: str) -> Iterator[Item]:
    """What is there of a log, from its start. Where Redis does not answer, that is all."""
    key, position = log.stream_key(prefix, run_id), Position()
    try:
        while found := client.xrange(key, min=b"(" + position.id, count=_PAGE):
            yield from position.advance(_entry(*each) for each in found)
    except RedisError as error:
        telemetry.log().warning(telemetry.STREAM_REDIS_DOWN, error=str(error))


def _entry(entry_id: Any, fields: Any) -> Entry:
    """An entry as Redis returns it, which redis-py has made a mapping of."""
    return entry_id, [part for field in fields.items() for part in field]
