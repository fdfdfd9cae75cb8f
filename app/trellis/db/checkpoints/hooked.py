"""What the operator's handlers have encrypted in what was read, opened after the transaction, all at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from trellis.db.checkpoints.chain import Chain, Link
from trellis.db.checkpoints.history import Ancestor
from trellis.db.checkpoints.load import Stored, StoredWrite
from trellis.db.handlers import TAG, Handlers
from trellis.db.replacements import Place

Blob = Callable[[bytes], bytes]
Json = Callable[[Stored], dict[str, Any]]


def opened(read: Any, handlers: Handlers) -> Any:
    """
    The same with everything in it open: checkpoints, ancestors, writes, in lists or alone.

    :raises EncryptionFailed: a handler failed.
    """
    sealed: dict[bytes, None] = {}
    places: dict[bytes, list[Place]] = defaultdict(list)

    def noted(stored: Stored) -> dict[str, Any]:
        for data, place in _places(stored):
            places[data].append(place)
        return stored.metadata

    def shown(stored: Stored) -> dict[str, Any]:
        place = Place(table="checkpoint", keys=_keys(stored), column="metadata")
        return handlers.open_json(
            stored.metadata, model="checkpoint", field="metadata", place=place
        )

    _mapped(read, lambda data: _note(data, sealed), noted)
    found = dict(zip(sealed, handlers.open_blobs(list(sealed), places), strict=True))

    return _mapped(read, lambda data: found.get(data, data), shown)


def _note(data: bytes, sealed: dict[bytes, None]) -> bytes:
    if data[:1] == TAG:
        sealed[data] = None
    return data


def _places(stored: Stored) -> Iterator[tuple[bytes, Place]]:
    """Where each value of a checkpoint stands, by what is stored there."""
    keys = _keys(stored)
    thread = {name: keys[name] for name in ("thread_id", "checkpoint_ns")}
    for channel, chain in stored.chains.items():
        for link in chain.links:
            where = {**thread, "channel": channel, "version": link.version}
            yield link.data, Place(table="checkpoint_blob", keys=where, column="data")
    for write in stored.writes:
        where = {**keys, "task_id": write.task_id}
        yield write.data, Place(table="checkpoint_write", keys=where, column="data")


def _keys(stored: Stored) -> dict[str, str]:
    return {name: getattr(stored, name) for name in ("thread_id", "checkpoint_ns", "checkpoint_id")}


def _mapped(read: Any, blob: Blob, json: Json) -> Any:
    """A copy with another content in each blob and in the metadata."""
    match read:
        case bytes():
            return blob(read)
        case Link() | StoredWrite():
            return read._replace(data=blob(read.data))
        case Chain():
            return replace(read, links=tuple(_mapped(link, blob, json) for link in read.links))
        case Ancestor():
            return read._replace(
                chains=_mapped(read.chains, blob, json), writes=_mapped(read.writes, blob, json)
            )
        case Stored():
            return read._replace(
                metadata=json(read),
                chains=_mapped(read.chains, blob, json),
                writes=_mapped(read.writes, blob, json),
            )
        case dict():
            return {key: _mapped(item, blob, json) for key, item in read.items()}
        case list() | tuple():
            return type(read)(_mapped(item, blob, json) for item in read)
    return read
