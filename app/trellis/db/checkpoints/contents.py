"""
What the operator's own checkpointer (`checkpointer.path`) holds: the values of checkpoints whose rows are in Postgres.

A checkpointer that is not ours cannot tell which attempt at a run still counts. So Postgres says which checkpoints
there are, as it does without one: a row, fenced, is written after the operator's checkpointer has kept the values, and
they are read by the id in the row. What an attempt that was given up leaves there has no row, and is never read.
The row's body says under HELD which channels have a value there.

All calls are made on the loop that the checkpointer was opened on.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine

from trellis.db.checkpoints.load import HELD, Key, Stored
from trellis.db.plain import to_plain
from trellis.domain.failures import describe, storable
from trellis.errors import CheckpointerFailed
from trellis.telemetry import CHECKPOINTER_FAILED, log

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

T = TypeVar("T")

#: Option of an engine: the contents of its process.
_OPTION = "trellis_contents"
#: How long it may take to answer one who is no run, in seconds.
PATIENCE_SECONDS = 30.0
#: How many checkpoints are asked for at the same time.
_AT_ONCE = 8


class Contents:
    """The operator's own checkpointer, in a process. Nobody uses it before it is open."""

    def __init__(self) -> None:
        self._saver: BaseCheckpointSaver[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, saver: BaseCheckpointSaver[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Use a checkpointer that was opened on a loop."""
        self._saver, self._loop = saver, loop

    @property
    def deletes_runs(self) -> bool:
        """Whether it can delete what a run has put there. It need not."""
        from langgraph.checkpoint.base import BaseCheckpointSaver

        missing: Any = BaseCheckpointSaver.adelete_for_runs
        return getattr(type(self._saver), "adelete_for_runs", missing) is not missing

    async def values(self, key: Key, held: Sequence[str]) -> dict[str, Any]:
        """
        The values of a checkpoint. From any loop.

        :raises CheckpointerFailed: it has lost them, or failed.
        """
        found = await self.on_loop(self.get(key))
        if found is None:
            raise CheckpointerFailed(f"has lost {_told(key)}")
        values = found.checkpoint["channel_values"]
        if missing := [channel for channel in held if channel not in values]:
            raise CheckpointerFailed(f"has lost {', '.join(missing)} of {_told(key)}")
        return {channel: values[channel] for channel in held}

    async def get(self, key: Key) -> CheckpointTuple | None:
        """A checkpoint as it is kept. On the loop."""
        found: CheckpointTuple | None = await self.call(
            "aget_tuple", {"configurable": key._asdict()}
        )
        if found is not None and found.checkpoint["id"] != key.checkpoint_id:
            raise CheckpointerFailed(f"gave {found.checkpoint['id']!r} when asked for {_told(key)}")
        return found

    def plain_values(self, stored: Sequence[Stored | None]) -> list[Stored | None]:
        """Checkpoints with their values as JSON data. From a thread."""
        return self.wait(in_time(self._all_plain(stored)))

    async def _all_plain(self, stored: Sequence[Stored | None]) -> list[Stored | None]:
        free = asyncio.Semaphore(_AT_ONCE)

        async def plain(each: Stored | None) -> Stored | None:
            if each is None or HELD not in each.body:
                return each
            async with free:
                return filled(each, _plain(await self.values(Key(*each[:3]), each.body[HELD])))

        return list(await asyncio.gather(*map(plain, stored)))

    def copy(self, source: str, target: str, ids: Sequence[tuple[str, str]]) -> None:
        """Give a thread what another one has of some checkpoints. From a thread."""
        self.wait(self.acopy(source, target, ids))

    async def acopy(self, source: str, target: str, ids: Sequence[tuple[str, str]]) -> None:
        """The same on the loop."""
        for namespace, checkpoint_id in ids:
            await in_time(self._copy(Key(source, namespace, checkpoint_id), target))

    async def _copy(self, key: Key, target: str) -> None:
        found = await self.get(key)
        if found is None:
            # Its values are in Postgres.
            return
        parent = (
            found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
        )
        place = {"thread_id": target, "checkpoint_ns": key.checkpoint_ns}
        # Without the run: deleting what a run has put there must not reach into the copy.
        metadata = {name: value for name, value in found.metadata.items() if name != "run_id"}
        versions = found.checkpoint["channel_versions"]
        config = {"configurable": {**place, "checkpoint_id": parent}}
        await self.call("aput", config, found.checkpoint, metadata, versions)
        written: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        for task_id, channel, value in found.pending_writes or ():
            written[task_id].append((channel, value))
        for task_id, writes in written.items():
            config = {"configurable": {**place, "checkpoint_id": key.checkpoint_id}}
            await self.call("aput_writes", config, writes, task_id)

    def delete(self, thread_id: str, *, run_id: str | None) -> None:
        """
        Delete everything of a thread, or what a run has put there. From a thread.

        :raises CheckpointerFailed: it raised, or took too long.
        """
        if run_id is None:
            self.wait(in_time(self.call("adelete_thread", thread_id)))
        elif self.deletes_runs:
            self.wait(in_time(self.call("adelete_for_runs", [run_id])))

    async def call(self, method: str, *args: Any) -> Any:
        """
        Call the checkpointer. On the loop.

        :raises CheckpointerFailed: it raised.
        """
        try:
            return await getattr(self._saver, method)(*args)
        # The edge to the operator's code.
        except (Exception, SystemExit) as error:
            # Text: what renders exceptions with colours and locals takes seconds, in which the loop would stand.
            stack = storable("".join(traceback.format_exception(error)))
            log().warning(CHECKPOINTER_FAILED, method=method, stack=stack)
            raise CheckpointerFailed(_reason(method, error)) from error

    async def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something on the checkpointer's loop, from any other."""
        assert self._loop is not None
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Wait in a thread for something on the checkpointer's loop.

        :raises CheckpointerFailed: this is the loop, which would wait for itself.
        """
        assert self._loop is not None
        with suppress(RuntimeError):
            if asyncio.get_running_loop() is self._loop:
                work.close()
                raise CheckpointerFailed(
                    "is async, and was asked without await: use ainvoke, or a node that is no coroutine"
                )
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def in_time(work: Coroutine[Any, Any, T]) -> T:
    """What somebody waits for who has no lease to keep. :raises CheckpointerFailed: it took too long."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await work
    except TimeoutError:
        raise CheckpointerFailed(f"took longer than {PATIENCE_SECONDS:.0f} s") from None


def filled(stored: Stored, values: Mapping[str, Any]) -> Stored:
    """The checkpoint as if it had its values inline."""
    body = {name: part for name, part in stored.body.items() if name != HELD}
    return stored._replace(body={**body, "inline": dict(values)})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    # Not at the top: it imports langgraph.
    from trellis.db.serde import serializer

    serde = serializer()
    return {channel: to_plain(*serde.dumps_typed(value)) for channel, value in values.items()}


def _reason(method: str, error: BaseException) -> str:
    told = describe(error)
    if isinstance(error, TypeError | ValueError):
        # Of what it was given, as a rule: a value that cannot be serialised.
        return f"refuses this in {method}: {told['error']}: {told['message']}"
    return f"raised {told['error']} in {method}"


def _told(key: Key) -> str:
    return f"checkpoint {key.checkpoint_id} of thread {key.thread_id}"


def equipped(engine: Engine, contents: Contents | None) -> Engine:
    """The engine, whose transactions know of the operator's own checkpointer, if there is one."""
    return engine if contents is None else engine.execution_options(**{_OPTION: contents})


def contents_of(tx: Connection | Engine) -> Contents | None:
    """The operator's own checkpointer behind an engine, or a transaction of it. None: values are in Postgres."""
    found: Contents | None = tx.get_execution_options().get(_OPTION)
    return found
