"""
LangGraph's checkpoints in Postgres.

    saver ──Rows──▶ backend ──▶ insert      one checkpoint row, a blob row per changed channel, rows of pending writes
      ▲                │
      └──── Stored ◀── load                 a checkpoint with the rows of its channels' values, nothing decoded
            (cache: rows by channel and version, so that a thread's next run reads only what it does not hold)

`checkpoint` has the body: versions, and values so small that a row of their own would be larger ("inline").
`checkpoint_blob` has the other values by channel and version; a version names one content for ever, so that forks
share rows, and a missing row means an empty channel. `chain` has the design of lists that grow.
`growth` decides between a full row and an appended one by comparing the content of the old elements, never only
their identity: an element that a node changed in place makes the list be written anew.

Where the operator has a checkpointer of their own, `contents` has the design: rows here, values there.

This package can be imported without langgraph; `saver`, `own`, `asked` and `growth` cannot.
"""

from trellis.db.checkpoints.backend import Backend, DirectBackend, StagedBackend
from trellis.db.checkpoints.cache import Cache
from trellis.db.checkpoints.contents import Contents
from trellis.db.checkpoints.leftovers import leave_threads
from trellis.db.checkpoints.load import Key, Stored, load
from trellis.db.checkpoints.rows import BlobRow, CheckpointRow, Rows, WriteRow, insert, sealed
from trellis.db.checkpoints.upkeep import (
    copy_thread,
    delete_for_runs,
    delete_threads,
    ids_of,
    is_built_upon,
    patch_latest,
    prune,
    roll_back,
    sealed_metadata,
)
from trellis.db.checkpoints.values import State, plain_values, plain_values_at

__all__ = [
    "Backend",
    "BlobRow",
    "Cache",
    "CheckpointRow",
    "Contents",
    "DirectBackend",
    "Key",
    "Rows",
    "StagedBackend",
    "State",
    "Stored",
    "WriteRow",
    "copy_thread",
    "delete_for_runs",
    "delete_threads",
    "ids_of",
    "insert",
    "is_built_upon",
    "leave_threads",
    "load",
    "patch_latest",
    "plain_values",
    "plain_values_at",
    "prune",
    "roll_back",
    "sealed",
    "sealed_metadata",
]
