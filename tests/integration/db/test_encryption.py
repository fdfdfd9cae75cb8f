"""Encrypted rows in Postgres: what they still can be asked for, and whom they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from sqlalchemy import Connection, Engine

from trellis.db import checkpoints, runs, store, threads
from trellis.db.access import forbidden
from trellis.db.checkpoints import BlobRow, CheckpointRow, DirectBackend, Key, Rows, WriteRow
from trellis.db.checkpoints.codec import pack, pack_body
from trellis.db.checkpoints.saver import Saver
from trellis.db.serde import serializer
from trellis.db.store import PostgresStore
from trellis.db.vault import Vault, guarded
from trellis.domain.access import condition_of
from trellis.domain.encryption import Encryption
from trellis.domain.ids import new_id
from trellis.errors import Invalid, Undecipherable

ITEMS: dict[str, dict[str, Any]] = {
    "a": {"n": 1, "s": "b", "t": True, "o": {"x": [1, 2]}},
    "b": {"n": 1.5, "s": "c", "t": False, "o": {"x": []}},
    "c": {"n": None, "o": {}},
    "d": {"n": "1", "o": 3, "t": 1},
    "e": {},
}
FILTERS: list[dict[str, Any]] = [
    {"n": 1},
    {"n": 1.0},
    {"n": None},
    {"n": {"$ne": 1}},
    {"n": {"$gt": 1}},
    {"n": {"$gte": 1, "$lt": 2}},
    {"n": {"$gte": None}},
    {"n": {"$lte": "1"}},
    {"s": {"$lt": "c"}},
    {"t": True},
    {"t": {"$gte": False}},
    {"o": {"x": [1, 2]}},
    {"o": {"x": [2, 1]}},
    {"o": {"x": {"$ne": []}}},
    {"o": {"$eq": {"x": []}}},
    {"o": {"$eq": {}}},
    {"n": 1, "s": "b"},
    {"n": 1, "s": "c"},
    {"no": {"such": None}},
]


def vault(key: bytes = b"k" * 32, *names: str) -> Vault:
    return Vault(Encryption(keys=(key,), names=frozenset(names)))


@pytest.fixture
def sealing(engine: Engine) -> Engine:
    """The test's database, for a process that has a key."""
    return guarded(engine, vault(b"k" * 32, "pin"))


@pytest.fixture
def stores(engine: Engine, sealing: Engine) -> Iterator[tuple[PostgresStore, PostgresStore]]:
    """One whose items are plain, one whose items are encrypted."""
    both = PostgresStore(engine, "plain"), PostgresStore(sealing, "sealed")
    for each in both:
        for key, value in ITEMS.items():
            each.put(("items",), key, value)
    yield both
    for each in both:
        each.close()


def test_checkpointer__passes_the_suite_of_langgraph(sealing: Engine) -> None:
    backend = DirectBackend(sealing)

    @checkpointer_test(name="trellis, encrypted")
    async def savers() -> Any:
        yield Saver(backend, serde=serializer())

    report = asyncio.run(validate(savers))
    backend.close()
    assert report.conformance_level() == "FULL"


def test_store__filters_as_a_plain_one(stores: Any) -> None:
    for wanted in FILTERS:
        plain, sealed = ([item.key for item in each.search((), filter=wanted)] for each in stores)

        assert sealed == plain, wanted


def test_store__pages_of_a_filter(stores: Any) -> None:
    _, sealed = stores
    found = [item.key for item in sealed.search((), filter={"n": {"$ne": 0}}, limit=2, offset=1)]

    assert found == ["d", "c"]


def test_store__a_filter_reads_so_many_items(stores: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MOST_READ", 3)
    monkeypatch.setattr(store, "_READ_AT_ONCE", 2)
    _, sealed = stores

    assert [item.key for item in sealed.search((), filter={"t": 1}, limit=1)] == ["d"]
    with pytest.raises(Invalid, match="reads at most"):
        sealed.search((), filter={"n": "no such"})


def test_store__an_item_in_the_place_of_another(engine: Engine, stores: Any) -> None:
    _, sealed = stores
    swap = (
        "UPDATE store_item SET value = (SELECT value FROM store_item WHERE tenant_id = 'sealed'"
        " AND key = 'b') WHERE tenant_id = 'sealed' AND key = 'a'"
    )
    with engine.begin() as tx:
        tx.exec_driver_sql(swap)

    with pytest.raises(Undecipherable, match="another row"):
        sealed.get(("items",), "a")


def enqueue(tx: Connection, run_id: str) -> None:
    row = {
        "run_id": run_id,
        "thread_id": new_id(),
        "tenant_id": "default",
        "assistant_id": new_id(),
        "graph_id": "echo",
        "multitask_strategy": "enqueue",
        "metadata": {"pin": 1},
        "kwargs": {"input": "rattlesnake"},
        "after_seconds": 0,
        "timeout_seconds": 60,
        "max_crashes": 3,
        "thread_metadata": {"pin": 1},
        "thread_config": {},
    }
    assert runs.enqueue_with_thread(tx, row, temporary=False)


def take(engine: Engine, run_id: str) -> runs.Claimed:
    with engine.begin() as tx:
        [claimed], _ = runs.claim(tx, {run_id: new_id()}, owner="test", lease_seconds=15)
    return claimed


@pytest.mark.parametrize("other", [None, vault(b"another key, 16.")], ids=["no key", "another"])
def test_claim__a_worker_without_the_key_leaves_the_run_alone(
    engine: Engine, sealing: Engine, other: Vault | None
) -> None:
    run_id = new_id()
    with sealing.begin() as tx:
        enqueue(tx, run_id)

    with pytest.raises(Undecipherable, match="which this process does not have"):
        take(guarded(engine, other) if other else engine, run_id)

    claimed = take(sealing, run_id)
    assert (claimed.kwargs, claimed.claim.attempt) == ({"input": "rattlesnake"}, 1)


def test_run__with_the_input_of_another(sealing: Engine) -> None:
    first, second = new_id(), new_id()
    with sealing.begin() as tx:
        enqueue(tx, first)
        enqueue(tx, second)
        tx.exec_driver_sql(
            "UPDATE run SET kwargs = (SELECT kwargs FROM run WHERE run_id = %s) WHERE run_id = %s",
            (first, second),
        )

    with pytest.raises(Undecipherable, match="another row"):
        take(sealing, second)


@pytest.mark.parametrize(
    ("table", "column"), [("checkpoint", "body"), ("checkpoint_blob", "data"), ("checkpoint_write", "data")]
)  # fmt: skip
def test_checkpoint__with_a_value_of_the_one_before(
    sealing: Engine, table: str, column: str
) -> None:
    """Within a thread, too: nobody turns back what it knows."""
    thread_id = new_id()
    with sealing.begin() as tx:
        checkpoints.insert(tx, two_of(thread_id))
        assert checkpoints.load(tx, [Key(thread_id, "", "2")])[0]
        key = "version" if table == "checkpoint_blob" else "checkpoint_id"
        tx.exec_driver_sql(
            f"UPDATE {table} SET {column} = (SELECT {column} FROM {table} WHERE {key} = '1') WHERE {key} = '2'"
        )

        with pytest.raises(Undecipherable, match="another row"):
            checkpoints.load(tx, [Key(thread_id, "", "2")])


def two_of(thread_id: str, *, ns: str = "") -> Rows:
    """Two checkpoints, each with a value of its own and a write."""
    rows = Rows()
    for n in ("1", "2"):
        body = pack_body({"inline": {}, "channel_versions": {"c": n}})
        rows.checkpoints.append(CheckpointRow(thread_id, ns, n, None, None, None, body, "{}"))
        rows.blobs.append(BlobRow(thread_id, ns, "c", n, "msgpack", None, pack(n.encode())))
        rows.writes.append(
            WriteRow(thread_id, ns, n, "task", 0, "c", "msgpack", pack(n.encode()), "")
        )
    return rows


def test_copy_thread__of_many_rows(sealing: Engine) -> None:
    """More than are in memory at once, in several namespaces."""
    source, target = new_id(), new_id()
    with sealing.begin() as tx:
        for n in range(150):
            checkpoints.insert(tx, two_of(source, ns=f"{n:03}"))
        checkpoints.copy_thread(tx, source, target)

        for n in range(150):
            ns = f"{n:03}"
            first, copied = checkpoints.load(tx, [Key(source, ns, "2"), Key(target, ns, "2")])
            assert first
            assert copied == first._replace(thread_id=target)


def test_search__by_what_is_encrypted(sealing: Engine) -> None:
    hidden, plain = condition_of({"$or": [{"a": 1}, {"pin": 1}]}), condition_of({"owner": "a"})
    with sealing.begin() as tx:
        threads.insert(
            tx, "default", thread_id=(thread_id := new_id()), metadata={"pin": 1}, ttl=None
        )

        assert forbidden(tx, "default", "threads", [thread_id], plain) == {thread_id}
        with pytest.raises(Invalid, match="'pin' is encrypted"):
            forbidden(tx, "default", "threads", [thread_id], hidden)
        with pytest.raises(Invalid, match="'pin' is encrypted"):
            threads.count(tx, "default", query=threads.Query(allowed=hidden))
