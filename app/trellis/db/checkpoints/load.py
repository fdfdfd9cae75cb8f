"""Checkpoints as they are stored, many at once: at most three statements, whatever the number of keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from trellis.db.checkpoints import places
from trellis.db.checkpoints.cache import Cache, Place
from trellis.db.checkpoints.chain import Chain, Link
from trellis.db.checkpoints.codec import as_uuid, unpack_body
from trellis.db.engine import Tx
from trellis.db.queries import execute
from trellis.db.vault import Vault, vault_of
from trellis.domain.runs import Claim
from trellis.errors import CheckpointerFailed, TrellisError

#: In a body: the channels whose value the operator's own checkpointer holds. Without it, values are in Postgres.
HELD = "held"
#: Channels that LangGraph makes for itself.
INTERNAL = ("__", "branch:", "join:")


class ValueLost(TrellisError):
    """A value builds on a row that is not there."""


class Key(NamedTuple):
    """Which checkpoint: of a thread and namespace, the newest one if checkpoint_id is None."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str | None


class StoredWrite(NamedTuple):
    task_id: str
    channel: str
    type: str
    data: bytes


class Stored(NamedTuple):
    """A checkpoint, nothing of it decoded but its body."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_checkpoint_id: str | None
    body: dict[str, Any]
    metadata: dict[str, Any]
    chains: Mapping[
        str, Chain
    ]  #: by channel; a channel that is neither here nor inline has no value
    writes: Sequence[StoredWrite]


def load(tx: Tx, keys: Sequence[Key], *, cache: Cache | None = None) -> list[Stored | None]:
    """
    Read checkpoints, their channel values and their pending writes, in the order of `keys`.

    None stands for a checkpoint that is not there. What `cache` holds is not read again.
    """
    heads = _heads(tx, keys)
    stored = dict(zip(heads, fill(tx, list(heads.values()), cache=cache), strict=True))
    return [stored.get(n) for n in range(len(keys))]


def load_values(
    tx: Tx, keys: Sequence[Key], *, only: Container[str] | None = None
) -> list[Stored | None]:
    """
    Read checkpoints with their channel values, without pending writes, in the order of `keys`.

    `only` names the channels that are needed; None means all. The connection may be one that commits each statement:
    what a rollback deletes between two of them is read anew.
    """
    while True:
        heads = _heads(tx, keys)
        found = _whole(tx, list(heads.values()), only=only)
        if found is not None:
            stored = dict(zip(heads, found, strict=True))
            return [stored.get(n) for n in range(len(keys))]


def _whole(
    tx: Tx, heads: Sequence[Stored], *, only: Container[str] | None
) -> Sequence[Stored] | None:
    """The checkpoints with their values. None: some have been deleted since they were found."""
    try:
        found = _with_chains(tx, heads, only=only)
    except ValueLost:
        if _are_there(tx, heads):
            raise
        return None
    lacking = [each for each in found if _lacks(each, only)]
    return found if _are_there(tx, lacking) else None


def _lacks(stored: Stored, only: Container[str] | None) -> bool:
    """Whether a channel has no value: it is empty, or its row has gone."""
    return any(
        channel not in stored.chains
        for channel in blobs_of(stored.body)
        if not channel.startswith(INTERNAL) and (only is None or channel in only)
    )


def _are_there(tx: Tx, found: Sequence[Stored]) -> bool:
    """A value goes in one commit with the last checkpoint that names it."""
    return len(_heads(tx, [Key(*each[:3]) for each in found])) == len(found)


def _heads(tx: Tx, keys: Sequence[Key]) -> dict[int, Stored]:
    """By the key's place in `keys`; a checkpoint that is not there is missing."""
    if not keys:
        return {}
    keys = [key._replace(thread_id=as_uuid(key.thread_id, what="thread_id")) for key in keys]
    rows = execute(tx, "checkpoints", "read_checkpoints", columns(keys, Key._fields))
    vault = vault_of(tx)
    return {n - 1: head([*keys[n - 1][:2], *rest], vault) for n, *rest in rows}


def head(row: Sequence[Any], vault: Vault) -> Stored:
    """A checkpoint from a row of `page`, without its values and writes."""
    thread_id, ns, checkpoint_id, parent, sealed, metadata = row
    body = unpack_body(vault.open(sealed, *places.of_body(thread_id, ns, checkpoint_id)))
    return Stored(thread_id, ns, checkpoint_id, parent, body, vault.show_by_key(metadata), {}, ())


def fill(tx: Tx, heads: Sequence[Stored], *, cache: Cache | None = None) -> list[Stored]:
    """Add the channel values and pending writes: two statements."""
    filled = _with_chains(tx, heads, cache=cache)
    writes = read_writes(tx, [each[:3] for each in heads])
    return [each._replace(writes=writes[each[:3]]) for each in filled]


def _with_chains(
    tx: Tx,
    heads: Sequence[Stored],
    *,
    cache: Cache | None = None,
    only: Container[str] | None = None,
) -> list[Stored]:
    wanted = {
        (each[:3], channel): ((each.thread_id, each.checkpoint_ns, channel), version)
        for each in heads
        for channel, version in blobs_of(each.body).items()
        if only is None or channel in only
    }
    chains = read_chains(tx, wanted.values(), cache=cache)
    held: dict[tuple[str, str, str], dict[str, Chain]] = defaultdict(dict)
    for (where, channel), value in wanted.items():
        if value in chains:
            held[where][channel] = chains[value]
    return [each._replace(chains=held[each[:3]]) for each in heads]


def blobs_of(body: Mapping[str, Any]) -> dict[str, str]:
    """The channels whose value is in rows of its own, if anywhere, with the version to look for."""
    if HELD in body:
        return {}
    inline = body["inline"]
    return {c: str(v) for c, v in body["channel_versions"].items() if c not in inline}


def check_here(stored: Stored) -> None:
    """:raises CheckpointerFailed: its values are in a checkpointer of the operator's own, which nobody has asked."""
    if HELD in stored.body:
        raise CheckpointerFailed(
            f'that "checkpointer.path" named holds checkpoint {stored.checkpoint_id} of thread '
            f"{stored.thread_id}, and langgraph.json names it no more."
        )


def read_chains(
    tx: Tx, wanted: Iterable[tuple[Place, str]], *, cache: Cache | None = None
) -> dict[tuple[Place, str], Chain]:
    """
    The rows of channel values. A value that is not stored is missing from the answer: its channel is empty.

    :raises ValueLost: a row builds on one that is not there.
    """
    chains: dict[tuple[Place, str], Chain] = {}
    missing: list[tuple[Place, str]] = []
    for place, version in dict.fromkeys(wanted):
        chain = cache.get(place, version) if cache else None
        if chain is None:
            missing.append((place, version))
        else:
            chains[place, version] = chain
    if missing:
        chains |= _read_chains(tx, missing)
    return chains


def _read_chains(tx: Tx, wanted: Sequence[tuple[Place, str]]) -> dict[tuple[Place, str], Chain]:
    flat = [(*place, version) for place, version in wanted]
    names = ("thread_id", "checkpoint_ns", "channel", "version")
    rows: dict[tuple[Place, str], tuple[Link, str | None]] = {}
    vault = vault_of(tx)
    for thread_id, ns, channel, version, kind, base, data in execute(
        tx, "checkpoints", "read_blobs", columns(flat, names)
    ):
        where = places.of_blob(thread_id, ns, channel, version, kind, base)
        rows[(thread_id, ns, channel), version] = (
            Link(version, kind, vault.open(data, *where)),
            base,
        )
    return {(place, v): _chain(rows, place, v) for place, v in wanted if (place, v) in rows}


def _chain(
    rows: Mapping[tuple[Place, str], tuple[Link, str | None]], place: Place, version: str
) -> Chain:
    links: list[Link] = []
    base: str | None = version
    while base is not None:
        found = rows.get((place, base))
        if found is None or len(links) > len(rows):
            raise ValueLost(f"Channel '{place[2]}' of thread {place[0]} has lost version {base}.")
        link, base = found
        links.append(link)
    return Chain(tuple(reversed(links)))


def read_writes(
    tx: Tx, ids: Sequence[tuple[str, str, str]]
) -> dict[tuple[str, str, str], list[StoredWrite]]:
    """The pending writes by checkpoint, each in the order in which a superstep applies them."""
    writes: dict[tuple[str, str, str], list[StoredWrite]] = defaultdict(list)
    if ids:
        vault = vault_of(tx)
        for thread_id, ns, checkpoint_id, task_id, idx, channel, kind, data in execute(
            tx, "checkpoints", "read_writes", columns(ids, Key._fields)
        ):
            where = places.of_write(thread_id, ns, checkpoint_id, task_id, idx, channel, kind)
            writes[thread_id, ns, checkpoint_id].append(
                StoredWrite(task_id, channel, kind, vault.open(data, *where))
            )
    return writes


def replaced_questions(
    tx: Tx, *, claim: Claim
) -> list[tuple[tuple[str, bytes], tuple[str, bytes]]]:
    """What tasks had asked before a run, and what they ask now that it has answered: type and data of each."""
    params = {"thread_id": claim.thread_id, "run_id": claim.run_id}
    vault = vault_of(tx)

    found = []
    for ns, checkpoint_id, task_id, idx, channel, before, old, now, new in execute(
        tx, "checkpoints", "replaced_questions", params
    ):
        where = partial(places.of_write, claim.thread_id, ns, checkpoint_id, task_id, idx, channel)
        asked = (before, vault.open(old, *where(before)))
        found.append((asked, (now, vault.open(new, *where(now)))))
    return found


def columns(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Rows as the arrays that `unnest` makes rows of again."""
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
