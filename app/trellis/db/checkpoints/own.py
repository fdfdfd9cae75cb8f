"""The saver of a process whose operator has a checkpointer of their own: rows in Postgres, values there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)

from trellis.db.checkpoints import leftovers, upkeep
from trellis.db.checkpoints.asked import config_of, key_of
from trellis.db.checkpoints.backend import Backend
from trellis.db.checkpoints.contents import Contents, filled
from trellis.db.checkpoints.history import Ancestor, Query
from trellis.db.checkpoints.load import HELD, Key, Stored
from trellis.db.checkpoints.saver import Saver
from trellis.errors import CheckpointerFailed

#: How long a run waits until what an earlier thread with the same id has left is gone, in seconds.
_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.1


class OwnSaver(Saver):
    """
    Checkpoints whose values the operator's checkpointer holds.

    Each put reaches it first, then its row is written as ever. One after the other, so that rows come in the order
    in which they were put, however long it takes.
    """

    def __init__(self, backend: Backend, *, contents: Contents, **options: Any) -> None:
        super().__init__(backend, **options)
        self._contents = contents
        self._turn = asyncio.Lock()
        self._fresh: set[str] = set()
        #: Those whose values are in Postgres: they are older than the operator's checkpointer.
        self._older: set[Key] = set()

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        stored = self._stored(key_of(config))
        return self._rebuilt(stored and self._contents.wait(self._filled(stored)))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        stored = await self._astored(key_of(config))
        return self._rebuilt(stored and await self._filled(stored))

    def _found(self, query: Query, limit: int | None) -> Iterator[Stored]:
        for stored in super()._found(query, limit):
            yield self._contents.wait(self._filled(stored))

    async def _afound(self, query: Query, limit: int | None) -> AsyncIterator[Stored]:
        async for stored in super()._afound(query, limit):
            yield await self._filled(stored)

    def _walked(self, key: Key, channels: Sequence[str]) -> Sequence[Ancestor]:
        found = super()._walked(key, channels)
        return [self._contents.wait(self._seeded(each, key)) for each in found]

    async def _awalked(self, key: Key, channels: Sequence[str]) -> Sequence[Ancestor]:
        return [await self._seeded(each, key) for each in await super()._awalked(key, channels)]

    async def _filled(self, stored: Stored) -> Stored:
        key = Key(*stored[:3])
        if HELD not in stored.body:
            self._older.add(key)
            return stored
        return filled(stored, await self._contents.values(key, stored.body[HELD]))

    async def _seeded(self, ancestor: Ancestor, key: Key) -> Ancestor:
        if not ancestor.held:
            return ancestor
        place = key._replace(checkpoint_id=ancestor.checkpoint_id)
        return ancestor._replace(values=await self._contents.values(place, ancestor.held))

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._contents.wait(self.aput(config, checkpoint, metadata, new_versions))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        await self._contents.on_loop(self._put(config, checkpoint, metadata, new_versions))
        return config_of(key_of(config)._replace(checkpoint_id=checkpoint["id"]))

    async def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> None:
        key = key_of(config)
        if key in self._older:
            # It has never seen the others.
            new_versions = checkpoint["channel_versions"]
        values = checkpoint["channel_values"]
        held = [channel for channel in values if channel in checkpoint["channel_versions"]]
        bare = cast(Checkpoint, {**checkpoint, "channel_values": {}, HELD: held})
        described = get_checkpoint_metadata(config, metadata)
        async with self._turn:
            await self._make_sure_of(key.thread_id)
            await self._contents.call("aput", _placed(config), checkpoint, described, new_versions)
            committed = self._handed(self._rows(config, bare, metadata, {}))
        if committed is not None:
            await asyncio.wrap_future(committed)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self._contents.wait(self.aput_writes(config, writes, task_id, task_path))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        await self._contents.on_loop(self._put_writes(config, writes, task_id, task_path))

    async def _put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> None:
        async with self._turn:
            await self._make_sure_of(key_of(config).thread_id)
            await self._contents.call("aput_writes", _placed(config), writes, task_id, task_path)
            committed = self._handed(self._write_rows(config, writes, task_id, task_path))
        if committed is not None:
            await asyncio.wrap_future(committed)

    # Upkeep

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._contents.wait(self.acopy_thread(source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        ids = await self._aask(partial(upkeep.ids_of, thread_id=source_thread_id))
        await self._contents.on_loop(self._contents.acopy(source_thread_id, target_thread_id, ids))
        await super().acopy_thread(source_thread_id, target_thread_id)

    async def _make_sure_of(self, thread_id: str) -> None:
        """
        Wait until nothing is to be deleted any more of an earlier thread with this id: it would take ours with it.

        :raises CheckpointerFailed: it still is.
        """
        if thread_id in self._fresh:
            return
        until = time.monotonic() + _PATIENCE_SECONDS
        while await self._aask(partial(leftovers.hasten, thread_id=thread_id)):
            if time.monotonic() > until:
                raise CheckpointerFailed(f"has not deleted an earlier thread {thread_id} yet")
            await asyncio.sleep(_LOOK_SECONDS)
        self._fresh.add(thread_id)


def _placed(config: RunnableConfig) -> RunnableConfig:
    """The config with the ids as they are read again."""
    thread_id, namespace, _ = key_of(config)
    place = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {**config, "configurable": {**config["configurable"], **place}}
