"""Which checkpoints LangGraph's configs ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import get_checkpoint_id

from trellis.db.checkpoints.codec import as_uuid, to_json
from trellis.db.checkpoints.history import Ancestor, Query, ancestors, page
from trellis.db.checkpoints.load import Key
from trellis.db.engine import Tx


def key_of(config: RunnableConfig) -> Key:
    """The checkpoint that a config names."""
    conf = config["configurable"]
    thread_id = as_uuid(conf["thread_id"], what="thread_id")
    return Key(thread_id, conf.get("checkpoint_ns", ""), get_checkpoint_id(config))


def config_of(key: Key) -> RunnableConfig:
    """The config that names a checkpoint."""
    return {"configurable": key._asdict()}


def query_of(
    config: RunnableConfig | None, filter_: dict[str, Any] | None, before: RunnableConfig | None
) -> Query:
    """What a call of `list` asks for."""
    conf = config["configurable"] if config else {}
    thread_id = conf.get("thread_id")
    return Query(
        as_uuid(thread_id, what="thread_id") if thread_id is not None else None,
        conf.get("checkpoint_ns"),
        conf.get("checkpoint_id"),
        get_checkpoint_id(before) if before else None,
        to_json(filter_) if filter_ else None,
    )


def walk(tx: Tx, *, key: Key, channels: Sequence[str]) -> Sequence[Ancestor]:
    """The ancestors that the channels are rebuilt from, nearest first."""
    if key.checkpoint_id is None:
        newest = page(tx, Query(key.thread_id, key.checkpoint_ns), after=None, limit=1)
        if not newest:
            return []
        key = key._replace(checkpoint_id=newest[0].checkpoint_id)
    return list(ancestors(tx, key, channels=channels))
