"""Keys of metadata that are the server's to write: what a client sends under them is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Nobody but the server writes these, whatever the metadata are of.
_PREFIXES = ("langgraph_", "__")
#: What the server says in the metadata of a run, and who has made an assistant: some are everybody's because of it.
_OF_RUNS = frozenset({"created_by", "run_id", "thread_id", "assistant_id", "graph_id"})


def without_reserved(metadata: Mapping[str, Any], *, of_thread: bool) -> dict[str, Any]:
    """
    Metadata as a client may write them.

    Of a thread they may name its graph and its assistant: clients do before its first run, and bring threads along.
    """
    reserved = frozenset() if of_thread else _OF_RUNS
    return {
        key: value
        for key, value in metadata.items()
        if key not in reserved and not key.startswith(_PREFIXES)
    }
