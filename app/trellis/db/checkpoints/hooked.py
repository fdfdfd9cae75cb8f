"""What the operator's handlers have encrypted in what was read, opened after the transaction, all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from trellis.db.checkpoints.chain import Chain, Link
from trellis.db.checkpoints.history import Ancestor
from trellis.db.checkpoints.load import Stored, StoredWrite
from trellis.db.handlers import TAG, Handlers

Blob = Callable[[bytes], bytes]
Json = Callable[[dict[str, Any]], dict[str, Any]]


def opened(read: Any, handlers: Handlers) -> Any:
    """
    The same with everything in it open: checkpoints, ancestors, writes, in lists or alone.

    :raises EncryptionFailed: a handler failed.
    """
    sealed: dict[bytes, None] = {}
    _mapped(read, lambda data: _note(data, sealed), lambda metadata: metadata)
    found = dict(zip(sealed, handlers.open_blobs(list(sealed)), strict=True))

    def shown(metadata: dict[str, Any]) -> dict[str, Any]:
        return handlers.open_json(metadata, model="checkpoint", field="metadata")

    return _mapped(read, lambda data: found.get(data, data), shown)


def _note(data: bytes, sealed: dict[bytes, None]) -> bytes:
    if data[:1] == TAG:
        sealed[data] = None
    return data


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
                metadata=json(read.metadata),
                chains=_mapped(read.chains, blob, json),
                writes=_mapped(read.writes, blob, json),
            )
        case dict():
            return {key: _mapped(item, blob, json) for key, item in read.items()}
        case list() | tuple():
            return type(read)(_mapped(item, blob, json) for item in read)
    return read
