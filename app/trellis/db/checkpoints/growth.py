"""Values to rows and back: what of a channel's value must be written, and what its rows add up to."""

from __future__ import annotations

import hashlib
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from trellis.db.checkpoints.chain import Chain, Link, kept
from trellis.db.checkpoints.codec import pack, unpack
from trellis.db.serde import fingerprint
from trellis.errors import TrellisError

#: A list of fewer bytes is always written whole: one row is quicker to read than two.
_SMALL = 2048


def encode(value: Any, *, version: str, base: Chain | None, serde: SerializerProtocol) -> Chain:
    """The chain that holds `value`; its last row is new. `base` is the channel's value before, in this run."""
    if type(value) is not list:
        return Chain((_link(value, version=version, end=0, serde=serde),))
    digest = hashlib.sha256()
    seen = 0
    if base is not None and base.digest is not None and base.end <= len(value):
        seen = base.end
        digest.update(fingerprint(value[:seen], serde=serde))
        if digest.digest() == base.digest:
            grown = _grown(value, base, version=version, serde=serde)
            if grown is not None:
                digest.update(fingerprint(value[seen:], serde=serde))
                return Chain(grown, digest.digest())
    full = _link(value, version=version, end=len(value), serde=serde)
    if full.size < _SMALL:
        return Chain((full,))
    digest.update(fingerprint(value[seen:], serde=serde))
    return Chain((full,), digest.digest())


def decode(chain: Chain, *, serde: SerializerProtocol) -> Any:
    """A new object each time, which its reader may change."""
    parts = [serde.loads_typed((link.type, unpack(link.data))) for link in chain.links]
    return _joined(parts)


def measured(chain: Chain, *, serde: SerializerProtocol) -> tuple[Any, Chain]:
    """Decode rows fresh from the database, and note what appending to them needs to know."""
    contents = [unpack(link.data) for link in chain.links]
    parts = [
        serde.loads_typed((link.type, data))
        for link, data in zip(chain.links, contents, strict=True)
    ]
    if type(parts[0]) is not list:
        return _joined(parts), chain
    links, end = [], 0
    for link, data, part in zip(chain.links, contents, parts, strict=True):
        end += len(part)
        links.append(link._replace(size=len(data), end=end))
    value = _joined(parts)
    if sum(map(len, contents)) < _SMALL:
        return value, Chain(tuple(links))
    return value, Chain(tuple(links), hashlib.sha256(fingerprint(value, serde=serde)).digest())


def _grown(
    value: list[Any], base: Chain, *, version: str, serde: SerializerProtocol
) -> tuple[Link, ...] | None:
    """The chain of a list that begins as `base` does. None: its appended rows would outweigh the full one."""
    links = base.links[: kept(base.links)]
    link = _link(value[links[-1].end :], version=version, end=len(value), serde=serde)
    appended = sum(each.size for each in links[1:]) + link.size
    return (*links, link) if appended <= links[0].size else None


def _link(value: Any, *, version: str, end: int, serde: SerializerProtocol) -> Link:
    kind, data = serde.dumps_typed(value)
    return Link(version, kind, pack(data), len(data), end)


def _joined(parts: list[Any]) -> Any:
    first, *rest = parts
    for part in rest:
        if type(first) is not list or type(part) is not list:
            raise TrellisError("A checkpoint row appends to a value that is no list.")
        first += part
    return first
