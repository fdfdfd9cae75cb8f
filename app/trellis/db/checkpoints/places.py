"""What each encrypted value of a checkpoint is bound to: the key of its row, and how it is to be read."""

from __future__ import annotations

from typing import Any

Where = tuple[Any, ...]


def of_body(thread_id: str, checkpoint_ns: str, checkpoint_id: str) -> Where:
    return ("checkpoint", thread_id, checkpoint_ns, checkpoint_id)


def of_blob(
    thread_id: str, ns: str, channel: str, version: str, kind: str, base: str | None
) -> Where:
    return ("blob", thread_id, ns, channel, version, kind, base)


def of_write(
    thread_id: str, ns: str, checkpoint_id: str, task_id: str, idx: int, channel: str, kind: str
) -> Where:
    """Also of the value that a later run has replaced: a rollback puts it back."""
    return ("write", thread_id, ns, checkpoint_id, task_id, idx, channel, kind)
