"""A thread's values as JSON data, read without its graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from trellis.db.checkpoints.chain import Chain
from trellis.db.checkpoints.codec import as_uuid, unpack
from trellis.db.checkpoints.contents import contents_of
from trellis.db.checkpoints.hooked import opened
from trellis.db.checkpoints.load import INTERNAL, Key, Stored, check_here, load_values
from trellis.db.engine import Tx
from trellis.db.plain import to_plain
from trellis.db.vault import vault_of
from trellis.errors import TrellisError

#: The one channel of a graph whose state is not a dict.
_ROOT = "__root__"


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the state of a graph."""

    #: Those that its author declared, one that is the whole state, or (None) all that LangGraph does not use for itself.
    channels: Sequence[str] | str | None = None
    #: What channels hold that nothing was ever written to.
    initial: Mapping[str, Any] = field(default_factory=dict)


def plain_values(
    tx: Tx,
    thread_ids: Sequence[str],
    *,
    states: Mapping[str, State],
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """
    The values of each thread's newest root checkpoint. A thread without a checkpoint is missing from the answer.

    `states` is by thread; one that has no entry is shown as it was written.
    `only` names the values that are needed, so that large others are not read; they may be there all the same.
    A DeltaChannel is empty unless this very checkpoint stores its value: rebuilding it takes the graph's reducer.
    """
    keys = [Key(as_uuid(thread_id, what="thread_id"), "", None) for thread_id in thread_ids]
    if only is not None:
        roots = (each.channels for each in states.values() if isinstance(each.channels, str))
        only = {*only, *roots, _ROOT}
    loaded = zip(thread_ids, _opened(tx, load_values(tx, keys, only=only)), strict=True)
    return {tid: _values(stored, states.get(tid, State())) for tid, stored in loaded if stored}


def plain_values_at(tx: Tx, key: Key, *, state: State) -> Any:
    """The values of one checkpoint. None means that it is not there."""
    [stored] = _opened(tx, load_values(tx, [key]))
    return None if stored is None else _values(stored, state)


def _opened(tx: Tx, found: list[Stored | None]) -> list[Stored | None]:
    if contents := contents_of(tx):
        found = contents.plain_values(found)
    handlers = vault_of(tx).handlers
    return cast("list[Stored | None]", opened(found, handlers)) if handlers else found


def _values(stored: Stored, state: State) -> Any:
    check_here(stored)
    written = stored.body["channel_versions"]
    channels = state.channels
    if channels is None and _ROOT in written:
        channels = _ROOT
    unwritten = {name: value for name, value in state.initial.items() if name not in written}
    if isinstance(channels, str):
        return _held(stored, [channels], unwritten).get(channels)
    if channels is None:
        channels = [each for each in written if not each.startswith(INTERNAL)]
    return _held(stored, channels, unwritten)


def _held(stored: Stored, channels: Sequence[str], unwritten: Mapping[str, Any]) -> dict[str, Any]:
    """The values of some channels of a checkpoint, in the order asked for, without the empty ones."""
    known = {**unwritten, **stored.body["inline"]}
    return {
        channel: known[channel] if channel in known else _decoded(stored.chains[channel])
        for channel in channels
        if channel in known or channel in stored.chains
    }


def _decoded(chain: Chain) -> Any:
    first, *rest = (to_plain(link.type, unpack(link.data)) for link in chain.links)
    for part in rest:
        if not (isinstance(first, list) and isinstance(part, list)):
            raise TrellisError("A checkpoint row appends to a value that is no list.")
        first += part
    return first
