"""Attempts, deletions and failures where the operator's own checkpointer has the values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import Engine, text

from trellis.db import checkpoints, runs
from trellis.db.checkpoints import Cache, Contents, DirectBackend, leftovers
from trellis.db.checkpoints.contents import equipped
from trellis.db.checkpoints.own import OwnSaver
from trellis.db.checkpoints.saver import Saver
from trellis.db.engine import new_engine
from trellis.db.rounds import Finish
from trellis.db.serde import serializer
from trellis.db.writer import FencedBackend, Writer
from trellis.dev.process import poll_until
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim, Outcome, RunStatus
from trellis.errors import CheckpointerFailed, Fenced
from trellis_workers.maintenance.remover import Remover

SUCCESS = Outcome(status=RunStatus.SUCCESS)
COUNT = "SELECT count(*) FROM checkpoint_leftover"


class Mine(InMemorySaver):
    """Fails when it is told to, and can delete runs."""

    failing = ""

    async def aput(self, *args: Any) -> Any:
        if self.failing == "aput":
            raise OSError("disk full, at /srv/secret")
        return await super().aput(*args)

    async def adelete_thread(self, thread_id: str) -> None:
        if self.failing == "adelete_thread":
            raise OSError("gone")
        await super().adelete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Any) -> None:
        self.deleted = list(run_ids)


@pytest.fixture
def mine() -> Mine:
    return Mine()


@pytest.fixture
def contents(mine: Mine, loop: asyncio.AbstractEventLoop) -> Contents:
    contents = Contents()
    contents.open(mine, loop)
    return contents


@pytest.fixture
def own(engine: Engine, contents: Contents) -> Engine:
    return equipped(engine, contents)


@pytest.fixture
def writer(database_url: str, contents: Contents) -> Iterator[Writer]:
    engine = new_engine(database_url, pool_size=1)
    writer = Writer(equipped(engine, contents), cache=Cache(), patience_seconds=5)
    yield writer
    writer.close()
    engine.dispose()


@pytest.fixture
def backend(own: Engine) -> Iterator[DirectBackend]:
    backend = DirectBackend(own)
    yield backend
    backend.close()


@pytest.fixture
def read(backend: DirectBackend, contents: Contents) -> Callable[[str], CheckpointTuple | None]:
    """The newest checkpoint of a thread, as a request sees it."""

    def read(thread_id: str) -> CheckpointTuple | None:
        saver = OwnSaver(backend, contents=contents, serde=serializer())
        return saver.get_tuple({"configurable": {"thread_id": thread_id}})

    return read


def put(saver: Saver, thread_id: str, value: str, **metadata: Any) -> str:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"said": value}
    checkpoint["channel_versions"] = {"said": saver.get_next_version(None, None)}
    config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    saver.put(config, checkpoint, metadata, dict(checkpoint["channel_versions"]))  # type: ignore[arg-type]
    return checkpoint["id"]


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_attempt_that_was_given_up__is_never_read(
    engine, a_run, claim, writer, contents, mine, read, durability
) -> None:
    """It puts a later checkpoint than its successor, into a checkpointer that takes it."""
    old = claim(a_run())
    with engine.begin() as tx:
        tx.execute(text("UPDATE run SET status = 'pending', lease_expires_at = NULL"))
    new = claim(old.run_id)

    def saver(claim: Claim) -> OwnSaver:
        options = {"claim": claim, "durability": durability, "serde": serializer()}
        return OwnSaver(FencedBackend(writer, claim), contents=contents, **options)

    counts = put(saver(new), new.thread_id, "counts")
    try:
        put(saver(old), old.thread_id, "zombie")
    except Fenced:
        assert durability == "sync"
    writer.submit(Finish(claim=new, outcome=SUCCESS)).result(10)
    with pytest.raises(Fenced):
        writer.submit(Finish(claim=old, outcome=SUCCESS)).result(10)

    found = read(new.thread_id)
    assert found is not None
    assert found.checkpoint["id"] == counts
    assert found.checkpoint["channel_values"] == {"said": "counts"}
    # It is there, and later than the one that counts.
    config = {"configurable": {"thread_id": new.thread_id}}
    newest = next(mine.list(config))
    assert newest.checkpoint["channel_values"] == {"said": "zombie"}


def test_put__that_fails_writes_no_row(a_thread, backend, contents, mine, read) -> None:
    thread_id, mine.failing = a_thread(), "aput"
    saver = OwnSaver(backend, contents=contents, serde=serializer())

    with pytest.raises(CheckpointerFailed, match="raised OSError in aput") as raised:
        put(saver, thread_id, "lost")

    assert "secret" not in str(raised.value)
    assert read(thread_id) is None


def test_put__on_the_loop_without_await(a_thread, backend, contents, loop) -> None:
    saver = OwnSaver(backend, contents=contents, serde=serializer())
    thread_id = a_thread()

    async def call() -> None:
        put(saver, thread_id, "x")

    with pytest.raises(CheckpointerFailed, match="use ainvoke"):
        asyncio.run_coroutine_threadsafe(call(), loop).result(10)


def test_checkpoint_from_before__is_read_and_built_upon(
    engine, a_thread, backend, contents, read
) -> None:
    """A channel that has not changed since is not new to the operator's checkpointer, and it has never had it."""
    thread_id = a_thread()
    config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    before = DirectBackend(engine)
    first = put(Saver(before, serde=serializer()), thread_id, "from before")
    before.close()
    saver = OwnSaver(backend, contents=contents, serde=serializer())
    old = saver.get_tuple(config)
    assert old is not None
    assert old.checkpoint["channel_values"] == {"said": "from before"}

    checkpoint = empty_checkpoint()
    versions = {**old.checkpoint["channel_versions"], "new": saver.get_next_version(None, None)}
    checkpoint["channel_values"] = {"said": "from before", "new": 1}
    checkpoint["channel_versions"] = versions
    saver.put(old.config, checkpoint, {}, {"new": versions["new"]})

    found = read(thread_id)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"said": "from before", "new": 1}
    assert found.parent_config["configurable"]["checkpoint_id"] == first


def test_values__without_the_checkpointer_that_has_them(
    engine, a_thread, backend, contents
) -> None:
    thread_id = a_thread()
    put(OwnSaver(backend, contents=contents, serde=serializer()), thread_id, "kept")
    plain = DirectBackend(engine)

    with pytest.raises(CheckpointerFailed, match="names it no more"):
        Saver(plain, serde=serializer()).get_tuple({"configurable": {"thread_id": thread_id}})
    with engine.connect() as tx, pytest.raises(CheckpointerFailed, match="names it no more"):
        checkpoints.plain_values(tx, [thread_id], states={})

    plain.close()


def test_values__as_plain_data(own, a_thread, backend, contents) -> None:
    threads = [a_thread() for _ in range(3)]
    for n, thread_id in enumerate(threads[:2]):
        put(OwnSaver(backend, contents=contents, serde=serializer()), thread_id, f"v{n}")

    with own.connect() as tx:
        found = checkpoints.plain_values(tx, threads, states={})

    assert found == {threads[0]: {"said": "v0"}, threads[1]: {"said": "v1"}}


@pytest.fixture
def remover(own: Engine, contents: Contents) -> Iterator[Remover]:
    remover = Remover(own, contents)
    yield remover
    remover.close()


def make_due(engine: Engine) -> None:
    with engine.begin() as tx:
        tx.execute(text("UPDATE checkpoint_leftover SET due_at = clock_timestamp()"))


def test_thread__is_deleted_there_too(own, a_thread, backend, contents, mine, one, remover) -> None:
    thread_id = a_thread()
    put(OwnSaver(backend, contents=contents, serde=serializer()), thread_id, "x")
    mine.failing = "adelete_thread"
    with own.begin() as tx:
        runs.delete_threads(tx, [thread_id])
    assert one("SELECT due_at > clock_timestamp() + interval '9 s' FROM checkpoint_leftover")

    make_due(own)
    assert poll_until(
        lambda: one("SELECT last_error FROM checkpoint_leftover") is not None, seconds=20
    )
    assert mine.storage[thread_id]
    mine.failing = ""
    make_due(own)

    assert poll_until(lambda: one(COUNT) == 0, seconds=20)
    assert not mine.storage[thread_id]


def test_run__is_deleted_there_after_a_rollback(own, claim, a_run, mine, one, remover) -> None:
    run = claim(a_run())

    with own.begin() as tx:
        runs.roll_back(tx, run.run_id, run.thread_id)

    assert poll_until(lambda: one(COUNT) == 0, seconds=20)
    assert mine.deleted == [run.run_id]


def test_run__of_a_checkpointer_that_cannot_delete_it(engine, claim, a_run, loop, one) -> None:
    contents, run = Contents(), claim(a_run())
    contents.open(InMemorySaver(), loop)

    with equipped(engine, contents).begin() as tx:
        runs.roll_back(tx, run.run_id, run.thread_id)

    assert one(COUNT) == 0


def test_thread__that_is_made_again_waits_for_its_predecessor_to_go(
    own, a_thread, backend, contents, mine, one, remover, read
) -> None:
    thread_id = a_thread()
    put(OwnSaver(backend, contents=contents, serde=serializer()), thread_id, "old")
    with own.begin() as tx:
        runs.delete_threads(tx, [thread_id])
        tx.execute(text("INSERT INTO thread (thread_id) VALUES (:t)"), {"t": thread_id})

    put(OwnSaver(backend, contents=contents, serde=serializer()), thread_id, "new")

    assert one(COUNT) == 0
    [kept] = mine.list({"configurable": {"thread_id": thread_id}})
    assert kept.checkpoint["channel_values"] == {"said": "new"}
    assert read(thread_id).checkpoint == kept.checkpoint


def test_take__is_for_one(own) -> None:
    with own.begin() as tx:
        leftovers.leave_threads(tx, [new_id()], delay_seconds=0)

    with own.begin() as tx, own.begin() as other:
        taken = leftovers.take(tx, deadline_seconds=60)
        assert leftovers.take(other, deadline_seconds=60) is None
    with own.begin() as tx:
        assert leftovers.take(tx, deadline_seconds=60) is None
        assert taken is not None
        assert not leftovers.keep(tx, taken.thread_id)
