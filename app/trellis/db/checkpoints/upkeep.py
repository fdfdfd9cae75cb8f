"""Copying and deleting whole threads, runs and old checkpoints, and the values that nobody refers to any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trellis.db.checkpoints import leftovers, places
from trellis.db.checkpoints.codec import as_uuid, to_json, unpack_body
from trellis.db.checkpoints.copying import copy_opened
from trellis.db.checkpoints.history import ancestors
from trellis.db.checkpoints.load import Key, blobs_of, columns
from trellis.db.checkpoints.rows import hidden
from trellis.db.engine import Tx
from trellis.db.queries import execute
from trellis.db.statements import sql
from trellis.db.vault import Vault, vault_of
from trellis.errors import Invalid

#: thread, namespace, checkpoint
_Id = tuple[str, str, str]
_Blob = tuple[str, str, str, str]


def delete_threads(tx: Tx, thread_ids: Sequence[str]) -> None:
    """Delete everything that threads have stored."""
    ids = [as_uuid(thread_id, what="thread_id") for thread_id in thread_ids]
    tx.exec_driver_sql(sql("checkpoints", "delete_threads"), {"thread_ids": ids})
    leftovers.leave_threads(tx, ids)


def delete_for_runs(tx: Tx, run_ids: Sequence[str]) -> None:
    """Delete the checkpoints that runs made, in every namespace, with their writes and values."""
    ids = [as_uuid(run_id, what="run_id") for run_id in run_ids]
    found = tx.exec_driver_sql(sql("checkpoints", "of_runs"), {"run_ids": ids})
    _delete(tx, [(row[0], row[1], row[2]) for row in found])


def roll_back(tx: Tx, run_id: str, thread_id: str) -> None:
    """Make a thread's checkpoints what they were before a run. The run's row must be locked, or ended."""
    ids = {"run_id": run_id, "thread_id": thread_id}
    for statement in ("restore_writes", "delete_writes"):
        execute(tx, "checkpoints", statement, ids)
    delete_for_runs(tx, [run_id])
    leftovers.leave_run(tx, run_id, thread_id)


def is_built_upon(tx: Tx, run_id: str, thread_id: str) -> bool:
    """
    Whether others need what a run of a locked thread has left, which is over.

    A run that has begun may go on from it without having written a checkpoint of its own yet; a DeltaChannel of a
    later checkpoint is rebuilt from it.
    """
    ids = {"run_id": run_id, "thread_id": thread_id}
    return bool(execute(tx, "checkpoints", "is_built_upon", ids).scalar_one())


def sealed_metadata(metadata: Mapping[str, Any], vault: Vault) -> str:
    """The metadata of a checkpoint as they are stored. :raises EncryptionFailed: a handler failed."""
    return hidden(to_json(metadata), vault)


def patch_latest(tx: Tx, thread_id: str, metadata: str) -> bool:
    """Merge sealed metadata into that of a thread's latest checkpoint. False means that it has none."""
    params = {"thread_id": thread_id, "metadata": metadata}
    return execute(tx, "checkpoints", "patch_latest", params).rowcount > 0


def copy_thread(tx: Tx, source: str, target: str) -> None:
    """Give the target thread everything that the source has stored. The copies belong to no run."""
    ids = {"source": as_uuid(source, what="thread_id"), "target": as_uuid(target, what="thread_id")}
    if vault_of(tx).binds_rows:
        copy_opened(tx, **ids)
        return
    for statement in ("copy_blobs", "copy_checkpoints", "copy_writes"):
        tx.exec_driver_sql(sql("checkpoints", statement), ids)


def ids_of(tx: Tx, thread_id: str) -> list[tuple[str, str]]:
    """Namespace and id of each checkpoint of a thread, a parent before its children."""
    found = tx.exec_driver_sql(sql("checkpoints", "of_threads"), {"thread_ids": [thread_id]})
    return sorted(((row[1], row[2]) for row in found), key=lambda each: each[1])


def prune(tx: Tx, thread_ids: Sequence[str], *, strategy: str) -> None:
    """
    Delete the history of threads on which nothing runs: a run that forks from what goes would lose its values.

    `keep_latest` keeps the newest checkpoint of each namespace, and the ancestors its DeltaChannels are rebuilt from;
    `delete` keeps nothing.

    :raises Invalid: the strategy is another.
    """
    if strategy == "delete":
        delete_threads(tx, thread_ids)
    elif strategy == "keep_latest":
        _keep_latest(tx, [as_uuid(thread_id, what="thread_id") for thread_id in thread_ids])
    else:
        raise Invalid(f"The strategy of a prune is keep_latest or delete, not {strategy!r}.")


def _keep_latest(tx: Tx, thread_ids: Sequence[str]) -> None:
    there = tx.exec_driver_sql(sql("checkpoints", "of_threads"), {"thread_ids": list(thread_ids)})
    old = {(row[0], row[1], row[2]) for row in there}
    for row in tx.exec_driver_sql(
        sql("checkpoints", "newest"), {"thread_ids": list(thread_ids)}
    ).all():
        old -= set(_needed(tx, row))
    _delete(tx, sorted(old))


def _needed(tx: Tx, newest: Sequence[Any]) -> Iterable[_Id]:
    """A namespace's newest checkpoint, and its ancestors as far as a DeltaChannel's last stored value."""
    thread_id, ns, checkpoint_id, counters = newest
    yield thread_id, ns, checkpoint_id
    # langgraph counts, per DeltaChannel, the steps since its value was last stored.
    for ancestor in ancestors(tx, Key(thread_id, ns, checkpoint_id), channels=list(counters or ())):
        yield thread_id, ns, ancestor.checkpoint_id


def _delete(tx: Tx, ids: Sequence[_Id]) -> None:
    if not ids:
        return
    threads = {"thread_ids": sorted({thread_id for thread_id, _, _ in ids})}
    tx.exec_driver_sql(sql("checkpoints", "advance"), threads)
    names = ("thread_id", "checkpoint_ns", "checkpoint_id")
    tx.exec_driver_sql(sql("checkpoints", "delete_checkpoints"), columns(ids, names))
    _sweep(tx, sorted({(thread_id, ns) for thread_id, ns, _ in ids}))


def _sweep(tx: Tx, namespaces: Sequence[tuple[str, str]]) -> None:
    """Delete the values that no checkpoint refers to, and that no value in use builds on."""
    where = columns(namespaces, ("thread_id", "checkpoint_ns"))
    # The keys first: a value that is committed between the two statements is then not among them,
    # and one committed before has its checkpoint among the bodies.
    keys = tx.exec_driver_sql(sql("checkpoints", "blob_keys"), where).all()
    bases: dict[_Blob, str | None] = {(row[0], row[1], row[2], row[3]): row[4] for row in keys}
    used: set[_Blob] = set()
    vault = vault_of(tx)
    for *place, sealed in tx.exec_driver_sql(sql("checkpoints", "bodies"), where):
        thread_id, ns, _ = place
        body = unpack_body(vault.open(sealed, *places.of_body(*place)))
        for channel, version in blobs_of(body).items():
            _use((thread_id, ns, channel, version), bases, used)
    unused = sorted(bases.keys() - used)
    if unused:
        names = ("thread_id", "checkpoint_ns", "channel", "version")
        tx.exec_driver_sql(sql("checkpoints", "delete_blobs"), columns(unused, names))


def _use(blob: _Blob, bases: dict[_Blob, str | None], used: set[_Blob]) -> None:
    while blob in bases and blob not in used:
        used.add(blob)
        blob = (*blob[:3], bases[blob] or "")
