"""A checkpointer in a SQLite file that processes share: values by channel and version, as Postgres's own has them."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)

T = TypeVar("T")

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS checkpoint (thread, ns, id, parent, run, kind, body, metadata_kind, metadata,
                                       PRIMARY KEY (thread, ns, id));
CREATE TABLE IF NOT EXISTS value (thread, ns, channel, version, kind, data, PRIMARY KEY (thread, ns, channel, version));
CREATE TABLE IF NOT EXISTS write (thread, ns, id, task, idx, channel, kind, data, PRIMARY KEY (thread, ns, id, task, idx));
"""


def place_of(config: RunnableConfig) -> tuple[str, str, str | None]:
    given = config["configurable"]
    return given["thread_id"], given["checkpoint_ns"], given.get("checkpoint_id")


class Keeper(BaseCheckpointSaver[str]):
    """Reads and writes the file in threads. What it reads goes through LangGraph's own serialiser."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        with self.open() as file:
            file.executescript(SCHEMA)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=30)) as file, file:
            yield file

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with self.open() as file:
                return work(file)

        return await asyncio.to_thread(run)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        thread, ns, parent = place_of(config)
        values = checkpoint["channel_values"]
        body = {name: part for name, part in checkpoint.items() if name != "channel_values"}
        described = get_checkpoint_metadata(config, metadata)
        row = (
            *(thread, ns, checkpoint["id"], parent, described.get("run_id")),
            *self.serde.dumps_typed(body),
            *self.serde.dumps_typed(described),
        )
        blobs = [
            (thread, ns, channel, version, *self.serde.dumps_typed(values[channel]))
            for channel, version in new_versions.items()
            if channel in values
        ]

        def put(file: sqlite3.Connection) -> None:
            file.executemany("INSERT OR IGNORE INTO value VALUES (?, ?, ?, ?, ?, ?)", blobs)
            file.execute("REPLACE INTO checkpoint VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

        await self.do(put)
        return {
            "configurable": {
                "thread_id": thread,
                "checkpoint_ns": ns,
                "checkpoint_id": checkpoint["id"],
            }
        }

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        place = place_of(config)
        rows = [
            (*place, task_id, idx, channel, *self.serde.dumps_typed(value))
            for idx, (channel, value) in enumerate(writes)
        ]
        insert = "INSERT OR IGNORE INTO write VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        await self.do(lambda file: file.executemany(insert, rows))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        place = place_of(config)
        assert place[2] is not None, "the server asks for checkpoints by id"
        return await self.do(lambda file: self.read(file, place))

    def read(self, file: sqlite3.Connection, place: tuple[Any, ...]) -> CheckpointTuple | None:
        thread, ns, id_ = place
        where = "WHERE thread = ? AND ns = ? AND id = ?"
        columns = "parent, kind, body, metadata_kind, metadata"
        row = file.execute(f"SELECT {columns} FROM checkpoint {where}", place).fetchone()
        if row is None:
            return None
        parent, kind, body, metadata_kind, metadata = row
        found = self.serde.loads_typed((kind, body))
        blobs = "SELECT channel, version, kind, data FROM value WHERE thread = ? AND ns = ?"
        found["channel_values"] = {
            channel: self.serde.loads_typed((kind, data))
            for channel, version, kind, data in file.execute(blobs, (thread, ns))
            if found["channel_versions"].get(channel) == version
        }
        writes = f"SELECT task, channel, kind, data FROM write {where} ORDER BY task, idx"
        config = {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id_}}
        above = {"configurable": {**config["configurable"], "checkpoint_id": parent}}
        return CheckpointTuple(
            config=config,
            checkpoint=found,
            metadata=self.serde.loads_typed((metadata_kind, metadata)),
            parent_config=above if parent else None,
            pending_writes=[
                (task, channel, self.serde.loads_typed((kind, data)))
                for task, channel, kind, data in file.execute(writes, place)
            ],
        )

    async def adelete_thread(self, thread_id: str) -> None:
        def delete(file: sqlite3.Connection) -> None:
            for table in ("checkpoint", "value", "write"):
                file.execute(f"DELETE FROM {table} WHERE thread = ?", (thread_id,))

        await self.do(delete)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        rows = [(run_id,) for run_id in run_ids]
        await self.do(lambda file: file.executemany("DELETE FROM checkpoint WHERE run = ?", rows))


@asynccontextmanager
async def opened() -> AsyncIterator[Keeper]:
    yield Keeper(os.environ["CHECKPOINTS_FILE"])
