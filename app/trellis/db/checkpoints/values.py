"""A thread's values as JSON data, read without its graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from trellis.db.checkpoints.chain import Chain
from trellis.db.checkpoints.codec import as_uuid, unpack
from trellis.db.checkpoints.hooked import opened
from trellis.db.checkpoints.load import Key, Stored, load_values
from trellis.db.engine import Tx
from trellis.db.plain import to_plain
from trellis.db.vault import vault_of
from trellis.errors import TrellisError

#: What the graph's author declared: the channels of the state, one channel that is the whole state, or unknown.
StateChannels = Sequence[str] | str | None

#: Channels that LangGraph makes for itself.
_INTERNAL = ("__", "branch:", "join:")
#: The one channel of a graph whose state is not a dict.
_ROOT = "__root__"


def plain_values(
    tx: Tx,
    thread_ids: Sequence[str],
    *,
    state_channels: Mapping[str, StateChannels],
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """
    The values of each thread's newest root checkpoint. A thread without a checkpoint is missing from the answer.

    `state_channels` is by thread; None, or no entry, means every channel that LangGraph does not use for itself.
    `only` names the values that are needed, so that large others are not read; they may be there all the same.
    A DeltaChannel is empty unless this very checkpoint stores its value: rebuilding it takes the graph's reducer.
    """
    keys = [Key(as_uuid(thread_id, what="thread_id"), "", None) for thread_id in thread_ids]
    if only is not None:
        roots = (channel for channel in state_channels.values() if isinstance(channel, str))
        only = {*only, *roots, _ROOT}
    loaded = zip(thread_ids, _opened(tx, load_values(tx, keys, only=only)), strict=True)
    return {tid: _values(stored, state_channels.get(tid)) for tid, stored in loaded if stored}


def plain_values_at(tx: Tx, key: Key, *, state_channels: StateChannels) -> Any:
    """The values of one checkpoint. None means that it is not there."""
    [stored] = _opened(tx, load_values(tx, [key]))
    return None if stored is None else _values(stored, state_channels)


def _opened(tx: Tx, found: list[Stored | None]) -> list[Stored | None]:
    handlers = vault_of(tx).handlers
    return cast("list[Stored | None]", opened(found, handlers)) if handlers else found


def _values(stored: Stored, channels: StateChannels) -> Any:
    if channels is None and _ROOT in stored.body["channel_versions"]:
        channels = _ROOT
    if isinstance(channels, str):
        return plain_channels(stored, [channels]).get(channels)
    if channels is None:
        channels = [c for c in stored.body["channel_versions"] if not c.startswith(_INTERNAL)]
    return plain_channels(stored, channels)


def plain_channels(stored: Stored, channels: Sequence[str]) -> dict[str, Any]:
    """The values of some channels of a checkpoint, in the order asked for, without the empty ones."""
    inline = stored.body["inline"]
    return {
        channel: inline[channel] if channel in inline else _decoded(stored.chains[channel])
        for channel in channels
        if channel in inline or channel in stored.chains
    }


def _decoded(chain: Chain) -> Any:
    first, *rest = (to_plain(link.type, unpack(link.data)) for link in chain.links)
    for part in rest:
        if not (isinstance(first, list) and isinstance(part, list)):
            raise TrellisError("A checkpoint row appends to a value that is no list.")
        first += part
    return first
