"""LangGraph's checkpointer: turns its calls into rows and back. One saver serves one run, or one request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from trellis.db.checkpoints import upkeep
from trellis.db.checkpoints.answers import NO_TASK, RESUME, RESUME_IDX, Answers, is_taken
from trellis.db.checkpoints.asked import config_of, key_of, query_of, walk
from trellis.db.checkpoints.backend import Backend
from trellis.db.checkpoints.cache import Cache, Place
from trellis.db.checkpoints.chain import Chain
from trellis.db.checkpoints.clock import observe
from trellis.db.checkpoints.codec import (
    next_version,
    pack,
    pack_body,
    to_json,
    unpack,
    uuid_or_none,
)
from trellis.db.checkpoints.growth import decode, encode, measured
from trellis.db.checkpoints.history import Ancestor, Query, page, page_size
from trellis.db.checkpoints.hooked import opened
from trellis.db.checkpoints.load import (
    Key,
    Stored,
    StoredWrite,
    check_here,
    load,
    replaced_questions,
)
from trellis.db.checkpoints.rows import BlobRow, CheckpointRow, Rows, WriteRow
from trellis.db.engine import Tx
from trellis.domain.encryption import context as encryption_context
from trellis.domain.runs import Claim

T = TypeVar("T")

Durability = Literal["sync", "async", "exit"]

#: Types of values that are kept in the checkpoint's body: exactly these, no subclasses.
_INLINE_TYPES = frozenset({bool, int, float, str, type(None)})
#: Longer texts get a row, which the checkpoints after it share.
_INLINE_CHARS = 64
#: Values a saver knows well enough to append to. A run has a few; a saver of many threads starts over.
_BASES = 1024


class Saver(BaseCheckpointSaver[str]):
    """
    Checkpoints through a backend.

    With a claim and durability async, puts return before their rows are committed; the run's end waits behind them.
    With durability exit their rows are held back until `flush`, and are then committed at once: a crash finds all of
    them or none. Otherwise puts return after the commit. `preloaded` has what was read for this run already; each
    entry is used once.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        serde: SerializerProtocol,
        cache: Cache | None = None,
        claim: Claim | None = None,
        durability: Durability = "async",
        preloaded: Mapping[Key, Stored | None] | None = None,
    ) -> None:
        super().__init__(serde=serde)
        self._backend = backend
        self._cache = cache
        self._claim = claim
        self._waits = claim is None or durability == "sync"
        self._holds = claim is not None and durability == "exit"
        self._context = encryption_context.get()
        self._held = Rows(context=self._context)
        self._answers = Answers()
        self._preloaded = dict(preloaded or {})
        for stored in self._preloaded.values():
            if stored is not None:
                observe(stored.checkpoint_id)
        # Only what this run has read or written is certainly in the tables, and may be built upon.
        self._bases: dict[Place, Chain] = {}

    def get_next_version(self, current: str | None, channel: None) -> str:
        return next_version(current)

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._rebuilt(self._stored(key_of(config)))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._rebuilt(await self._astored(key_of(config)))

    def _stored(self, key: Key) -> Stored | None:
        if key in self._preloaded:
            return self._opened(self._preloaded.pop(key))
        self._show(key.checkpoint_ns)
        return self._ask(self._load(key))

    async def _astored(self, key: Key) -> Stored | None:
        if key in self._preloaded:
            return await self._aopened(self._preloaded.pop(key))
        self._show(key.checkpoint_ns)
        return await self._aask(self._load(key))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        yield from map(self._shown, self._found(query_of(config, filter, before), limit))

    def _found(self, query: Query, limit: int | None) -> Iterator[Stored]:
        last = None
        while limit is None or limit > 0:
            found = self._ask(partial(page, query=query, after=last, limit=limit))
            yield from found
            if len(found) < page_size(limit):
                return
            last, limit = found[-1], limit and limit - len(found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        async for stored in self._afound(query_of(config, filter, before), limit):
            yield self._shown(stored)

    async def _afound(self, query: Query, limit: int | None) -> AsyncIterator[Stored]:
        last = None
        while limit is None or limit > 0:
            found = await self._aask(partial(page, query=query, after=last, limit=limit))
            for stored in found:
                yield stored
            if len(found) < page_size(limit):
                return
            last, limit = found[-1], limit and limit - len(found)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self._history(self._walked(key_of(config), channels), channels)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self._history(await self._awalked(key_of(config), channels), channels)

    def _walked(self, key: Key, channels: Sequence[str]) -> Sequence[Ancestor]:
        self._show(key.checkpoint_ns)
        return self._ask(partial(walk, key=key, channels=channels))

    async def _awalked(self, key: Key, channels: Sequence[str]) -> Sequence[Ancestor]:
        self._show(key.checkpoint_ns)
        return await self._aask(partial(walk, key=key, channels=channels))

    async def answered(self) -> set[str]:
        """The ids of the questions that this run's claim has found an answer to, and gone on from."""
        assert self._claim is not None
        query = partial(replaced_questions, claim=self._claim)
        pairs = [[self._ids(*data) for data in pair] for pair in await self._aask(query)]
        return set().union(*(before - now for before, now in pairs))

    def _ids(self, kind: str, data: bytes) -> set[str]:
        return {question.id for question in self.serde.loads_typed((kind, unpack(data)))}

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self._hand_over(self._rows(config, checkpoint, metadata, new_versions))
        return config_of(key_of(config)._replace(checkpoint_id=checkpoint["id"]))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        await self._ahand_over(self._rows(config, checkpoint, metadata, new_versions))
        return config_of(key_of(config)._replace(checkpoint_id=checkpoint["id"]))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self._hand_over(self._write_rows(config, writes, task_id, task_path))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        await self._ahand_over(self._write_rows(config, writes, task_id, task_path))

    # Upkeep

    def delete_thread(self, thread_id: str) -> None:
        self._ask(partial(upkeep.delete_threads, thread_ids=[thread_id]))

    async def adelete_thread(self, thread_id: str) -> None:
        await self._aask(partial(upkeep.delete_threads, thread_ids=[thread_id]))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._ask(partial(upkeep.delete_for_runs, run_ids=run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._aask(partial(upkeep.delete_for_runs, run_ids=run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._ask(partial(upkeep.copy_thread, source=source_thread_id, target=target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self._aask(
            partial(upkeep.copy_thread, source=source_thread_id, target=target_thread_id)
        )

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._ask(partial(upkeep.prune, thread_ids=thread_ids, strategy=strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await self._aask(partial(upkeep.prune, thread_ids=thread_ids, strategy=strategy))

    # To the backend

    def flush(self) -> None:
        """Commit what was held back, at once, behind what the run wrote before."""
        rows, self._held = self._held, Rows(context=self._context)
        if rows.checkpoints or rows.writes:
            # A subgraph's rows alone: the run cannot go on from them.
            rows.partial = "" not in rows.namespaces()
            self._backend.write_behind(rows)

    def forget(self) -> None:
        """Drop what was held back."""
        self._held = Rows(context=self._context)

    def _show(self, namespace: str) -> None:
        """Let a read of the namespace see what this run wrote there."""
        if namespace in self._held.namespaces():
            self.flush()

    def _ask(self, query: Callable[[Tx], T]) -> T:
        return self._opened(self._backend.read(query).result())

    async def _aask(self, query: Callable[[Tx], T]) -> T:
        return await self._aopened(await asyncio.wrap_future(self._backend.read(query)))

    def _opened(self, read: T) -> T:
        handlers = self._backend.handlers
        return read if handlers is None else cast(T, opened(read, handlers))

    async def _aopened(self, read: T) -> T:
        handlers = self._backend.handlers
        return read if handlers is None else await asyncio.to_thread(opened, read, handlers)

    def _hand_over(self, rows: Rows) -> None:
        if (committed := self._handed(rows)) is not None:
            committed.result()

    async def _ahand_over(self, rows: Rows) -> None:
        if (committed := self._handed(rows)) is not None:
            await asyncio.wrap_future(committed)

    def _handed(self, rows: Rows) -> Future[None] | None:
        """Hand rows over. Returns what to wait for, if they are to be waited for."""
        if self._holds:
            self._held.extend(rows)
        elif self._waits:
            return self._backend.write(rows)
        else:
            self._backend.write_behind(rows)
        return None

    def _load(self, key: Key) -> Callable[[Tx], Stored | None]:
        def query(tx: Tx) -> Stored | None:
            # A fork of an old checkpoint becomes the newest one. For a run, that one is preloaded.
            if key.checkpoint_id is not None and self._claim is None:
                for newest in page(tx, Query(*key[:2]), after=None, limit=1):
                    observe(newest.checkpoint_id)
            return load(tx, [key], cache=self._cache)[0]

        return query

    # Rows to LangGraph's objects

    def _rebuilt(self, stored: Stored | None) -> CheckpointTuple | None:
        """A checkpoint to go on from: its values are remembered, to append to."""
        if stored is None:
            return None
        observe(stored.checkpoint_id)
        values = {}
        for channel, chain in stored.chains.items():
            values[channel], known = self._value(chain)
            self._remember((stored.thread_id, stored.checkpoint_ns, channel), known)
        found = self._tuple(stored, values)
        for write in found.pending_writes or ():
            self._answers.note(stored[:3], *write)
        return found

    def _shown(self, stored: Stored) -> CheckpointTuple:
        """A checkpoint to look at."""
        return self._tuple(
            stored, {c: decode(chain, serde=self.serde) for c, chain in stored.chains.items()}
        )

    def _value(self, chain: Chain) -> tuple[Any, Chain]:
        if chain.digest is not None:
            return decode(chain, serde=self.serde), chain
        return measured(chain, serde=self.serde)

    def _tuple(self, stored: Stored, values: dict[str, Any]) -> CheckpointTuple:
        check_here(stored)
        body = {**stored.body, "id": stored.checkpoint_id}
        body["channel_values"] = {**body.pop("inline"), **values}
        key = Key(*stored[:3])
        parent = stored.parent_checkpoint_id
        return CheckpointTuple(
            config=config_of(key),
            checkpoint=body,  # type: ignore[arg-type]  # a Checkpoint's keys, as they were put
            metadata=stored.metadata,  # type: ignore[arg-type]  # likewise
            parent_config=config_of(key._replace(checkpoint_id=parent)) if parent else None,
            pending_writes=[
                write for write in map(self._pending, stored.writes) if not is_taken(*write)
            ],
        )

    def _pending(self, write: StoredWrite) -> tuple[str, str, Any]:
        return (
            write.task_id,
            write.channel,
            self.serde.loads_typed((write.type, unpack(write.data))),
        )

    def _history(
        self, found: Sequence[Ancestor], channels: Sequence[str]
    ) -> dict[str, DeltaChannelHistory]:
        return {channel: self._channel_history(found, channel) for channel in channels}

    def _channel_history(self, found: Sequence[Ancestor], channel: str) -> DeltaChannelHistory:
        writes: list[tuple[str, str, Any]] = []
        for ancestor in found:
            written = [
                self._pending(write) for write in ancestor.writes if write.channel == channel
            ]
            writes = written + writes
            if channel in ancestor.values:
                return {"writes": writes, "seed": ancestor.values[channel]}
            if channel in ancestor.chains:
                return {
                    "writes": writes,
                    "seed": decode(ancestor.chains[channel], serde=self.serde),
                }
        return {"writes": writes}

    # LangGraph's objects to rows

    def _rows(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Rows:
        key = key_of(config)
        self._preloaded.clear()
        values = checkpoint["channel_values"]
        # Handlers are asked about each value by itself.
        inline = {
            c: v
            for c, v in values.items()
            if c in checkpoint["channel_versions"] and _is_inline(v) and not self._backend.handlers
        }
        blobs = [
            self._blob(key, channel, str(version), values[channel])
            for channel, version in new_versions.items()
            if channel in values and channel not in inline
        ]
        body = {k: v for k, v in checkpoint.items() if k not in ("id", "channel_values")}
        described = get_checkpoint_metadata(config, metadata)
        row = CheckpointRow(
            key.thread_id,
            key.checkpoint_ns,
            checkpoint["id"],
            key.checkpoint_id,
            self._claim.run_id if self._claim else uuid_or_none(described.get("run_id")),
            self._claim.fence if self._claim else None,
            pack_body({**body, "inline": inline}),
            to_json(described),
        )
        return Rows(checkpoints=[row], blobs=blobs, context=self._context)

    def _blob(self, key: Key, channel: str, version: str, value: Any) -> BlobRow:
        place = (key.thread_id, key.checkpoint_ns, channel)
        chain = encode(value, version=version, base=self._bases.get(place), serde=self.serde)
        self._remember(place, chain)
        last = chain.links[-1]
        return BlobRow(*place, version, last.type, chain.base_version, last.data)

    def _remember(self, place: Place, chain: Chain) -> None:
        if len(self._bases) >= _BASES:
            self._bases.clear()
        self._bases[place] = chain
        if self._cache is not None:
            self._cache.put(place, chain)

    def _write_rows(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Rows:
        thread_id, ns, _ = key_of(config)
        checkpoint_id = config["configurable"]["checkpoint_id"]
        place = (thread_id, ns, checkpoint_id, task_id)
        run_id = self._claim.run_id if self._claim else None
        rows = Rows(context=self._context)
        for n, (channel, value) in enumerate(writes):
            kind, data = self.serde.dumps_typed(value)
            idx = WRITES_IDX_MAP.get(channel, n)
            rows.writes.append(WriteRow(*place, idx, channel, kind, pack(data), task_path, run_id))
        # In one row set, so in one commit: an answer is taken by one question, or still to be given.
        for taken in self._answers.taken_by(task_id, writes):
            kind, data = self.serde.dumps_typed(None)
            rows.writes.append(
                WriteRow(*taken, NO_TASK, RESUME_IDX, RESUME, kind, pack(data), "", run_id)
            )
        for channel, value in writes:
            self._answers.note(place[:3], task_id, channel, value)
        return rows


def _is_inline(value: Any) -> bool:
    return type(value) in _INLINE_TYPES and (type(value) is not str or len(value) <= _INLINE_CHARS)
