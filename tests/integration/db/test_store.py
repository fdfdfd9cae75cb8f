"""LangGraph's store: items, filters, namespaces, times to live, tenants."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore
from sqlalchemy import Engine, event

from trellis.db.store import PostgresStore, sweep
from trellis.errors import Invalid


@pytest.fixture
def store(engine: Engine) -> Iterator[PostgresStore]:
    store = PostgresStore(engine, "default")
    yield store
    store.close()


def keys(items: list[Any]) -> list[str]:
    return sorted(item.key for item in items)


def expire(engine: Engine, key: str) -> None:
    """Let an item's time be over, by the database's clock."""
    statement = "UPDATE store_item SET expires_at = clock_timestamp() - interval '1 second' WHERE key = %(key)s"
    with engine.begin() as tx:
        tx.exec_driver_sql(statement, {"key": key})


def minutes_left(engine: Engine, key: str) -> float:
    statement = "SELECT extract(epoch FROM expires_at - clock_timestamp()) / 60 FROM store_item WHERE key = %(key)s"
    with engine.connect() as tx:
        return float(tx.exec_driver_sql(statement, {"key": key}).scalar_one())


def test_item__is_put_got_changed_and_deleted(store: PostgresStore) -> None:
    store.put(("users", "1"), "prefs", {"theme": "dark", "n": [1, {"deep": None}]})
    first = store.get(("users", "1"), "prefs")
    assert first is not None
    assert (first.namespace, first.key) == (("users", "1"), "prefs")
    assert first.value == {"theme": "dark", "n": [1, {"deep": None}]}
    store.put(("users", "1"), "prefs", {"theme": "light"})
    second = store.get(("users", "1"), "prefs")
    assert second is not None
    assert second.value == {"theme": "light"}
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    store.delete(("users", "1"), "prefs")
    assert store.get(("users", "1"), "prefs") is None


def test_batch__reads_what_was_there_before_it_and_the_last_put_counts(
    store: PostgresStore,
) -> None:
    store.put(("a",), "k", {"n": 0})
    results = store.batch(
        [
            PutOp(("a",), "k", {"n": 1}),
            GetOp(("a",), "k"),
            GetOp(("a",), "missing"),
            PutOp(("a",), "k", {"n": 2}),
            GetOp(("a",), "k"),
            SearchOp(("a",)),
            PutOp(("b",), "gone", {"n": 1}),
            PutOp(("b",), "gone", None),
            ListNamespacesOp(),
        ]
    )
    assert [r and r.value for r in (results[1], results[2], results[4])] == [
        {"n": 0},
        None,
        {"n": 0},
    ]  # type: ignore[union-attr]
    assert [item.value for item in results[5]] == [{"n": 0}]  # type: ignore[union-attr]
    assert results[8] == [("a",)]
    assert [results[n] for n in (0, 3, 6, 7)] == [None] * 4
    found = store.get(("a",), "k")
    assert found is not None
    assert found.value == {"n": 2}
    assert store.get(("b",), "gone") is None


NAMESPACES = [
    ("1",),
    ("12",),
    ("a_",),
    ("ab",),
    ("a%",),
    ("a%", "x"),
    ("a",),
    ("a", "b"),
    ("a", "b", "c"),
    ("b", "a"),
]


@pytest.mark.parametrize(
    "prefix", [(), ("1",), ("a_",), ("a%",), ("a",), ("a", "b"), ("b",), ("zz",)]
)
def test_search__compares_namespaces_element_by_element(
    store: PostgresStore, prefix: tuple[str, ...]
) -> None:
    store.batch([PutOp(namespace, "/".join(namespace), {}) for namespace in NAMESPACES])
    expected = sorted("/".join(ns) for ns in NAMESPACES if ns[: len(prefix)] == prefix)
    assert keys(store.search(prefix, limit=100)) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"n": 2}, ["two"]),
        ({"n": {"$eq": 2}}, ["two"]),
        ({"n": {"$ne": 2}}, ["none", "one", "text"]),
        ({"n": {"$gt": 1}}, ["two"]),
        ({"n": {"$gte": 1}}, ["one", "two"]),
        ({"n": {"$lt": 2}}, ["one"]),
        ({"n": {"$lte": 2}}, ["one", "two"]),
        ({"n": {"$gte": 1, "$lt": 2}}, ["one"]),
        ({"n": {"$gt": "a"}}, ["text"]),
        ({"n": None}, ["none"]),
        ({"n": 1, "tag": "x"}, ["one"]),
        ({"deep": {"er": 1}}, ["one"]),
        ({"deep": {"er": {"$gt": 1}}}, ["two"]),
        ({"deep": {}}, ["one", "two"]),
        ({"deep": {"0": 1}}, []),
        ({"list": [1, 2]}, ["one"]),
        ({"list": [1]}, []),
        ({"it's": {"$eq": "; DROP TABLE store_item"}}, []),
        ({"flag": True}, ["one"]),
        ({}, ["none", "one", "text", "two"]),
    ],
)
def test_filter__chooses(store: PostgresStore, wanted: dict[str, Any], expected: list[str]) -> None:
    store.put(("f",), "one", {"n": 1, "tag": "x", "deep": {"er": 1}, "list": [1, 2], "flag": True})
    store.put(("f",), "two", {"n": 2, "tag": "x", "deep": {"er": 2}, "list": [2, 1], "flag": 1})
    store.put(("f",), "text", {"n": "z", "deep": [1]})
    store.put(("f",), "none", {"n": None})
    assert keys(store.search(("f",), filter=wanted)) == expected


scalars = st.none() | st.integers(-3, 3) | st.sampled_from(["a", "b", ""])
values = st.dictionaries(
    st.sampled_from(["x", "y"]),
    scalars | st.dictionaries(st.sampled_from(["x", "y"]), scalars),
    max_size=2,
)
filters = st.dictionaries(
    st.sampled_from(["x", "y"]),
    scalars
    | st.dictionaries(st.sampled_from(["$eq", "$ne"]), scalars, min_size=1)
    | st.dictionaries(st.sampled_from(["x", "y"]), scalars),
    max_size=2,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(values, max_size=6), st.lists(filters, min_size=1, max_size=6))
def test_filters__choose_what_langgraphs_memory_store_does(
    store: PostgresStore, items: list[dict[str, Any]], wanted: list[dict[str, Any]]
) -> None:
    memory = InMemoryStore()
    stale = [PutOp(item.namespace, item.key, None) for item in store.search((), limit=100)]
    store.batch([*stale, *(PutOp(("n",), str(n), value) for n, value in enumerate(items))])
    memory.batch([PutOp(("n",), str(n), value) for n, value in enumerate(items)])
    for each in wanted:
        assert keys(store.search((), filter=each)) == keys(memory.search((), filter=each))


def test_search__goes_over_pages_newest_first(store: PostgresStore) -> None:
    for n in range(7):
        store.put(("p",), str(n), {})
    store.put(("p",), "0", {"again": True})
    found = [
        item.key for offset in (0, 3, 6) for item in store.search(("p",), limit=3, offset=offset)
    ]
    assert found == ["0", "6", "5", "4", "3", "2", "1"]
    assert store.search(("p",), limit=0) == []


@pytest.fixture
def rows_read(engine: Engine) -> Callable[[Callable[[], Any]], int]:
    """How many rows of items the statements of a call read, by Postgres's own account."""

    def explain(tx: Any, cursor: Any, statement: str, params: Any, *_: Any) -> None:
        with engine.connect().execution_options(counting=True) as counter:
            if not tx.get_execution_options().get("counting"):
                explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
                plans.append(counter.exec_driver_sql(explained, params).scalar_one()[0]["Plan"])

    plans: list[dict[str, Any]] = []

    def rows(plan: dict[str, Any]) -> int:
        own = plan["Actual Rows"] * plan["Actual Loops"] if "Relation Name" in plan else 0
        return int(own) + sum(rows(part) for part in plan.get("Plans", ()))

    def read(call: Callable[[], Any]) -> int:
        event.listen(engine, "before_cursor_execute", explain)
        call()
        event.remove(engine, "before_cursor_execute", explain)
        return sum(rows(plan) for plan in plans)

    return read


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("newest", lambda store: store.search((), limit=10)),
        ("newest below", lambda store: store.search(("all",), limit=10)),
        ("deep below", lambda store: store.search(("all", "7"))),
        ("namespaces", lambda store: store.list_namespaces(limit=10)),
        ("one", lambda store: store.list_namespaces(prefix=("all", "7"))),
        ("roots", lambda store: store.list_namespaces(max_depth=1)),
    ],
)
def test_reading__looks_at_little_more_than_it_shows(
    store: PostgresStore,
    engine: Engine,
    rows_read: Callable[[Callable[[], Any]], int],
    name: str,
    call: Callable[[PostgresStore], list[Any]],
) -> None:
    with engine.begin() as tx:
        tx.exec_driver_sql(
            "INSERT INTO store_item (tenant_id, namespace, key, value) "
            "SELECT 'default', ARRAY['all', (n %% 2000)::text], n::text, '{}' FROM generate_series(1, 20000) n"
        )
        tx.exec_driver_sql("ANALYZE store_item")

    assert 0 < rows_read(lambda: call(store)) < 100, name


@pytest.mark.parametrize(
    "op",
    [
        ListNamespacesOp(),
        ListNamespacesOp(max_depth=1),
        ListNamespacesOp(limit=3, offset=2),
        ListNamespacesOp((MatchCondition("prefix", ("a",)),)),
        ListNamespacesOp((MatchCondition("prefix", ("a", "*")),)),
        ListNamespacesOp((MatchCondition("prefix", ("*", "a")),)),
        ListNamespacesOp((MatchCondition("suffix", ("a",)),)),
        ListNamespacesOp((MatchCondition("suffix", ("b", "*")),)),
        ListNamespacesOp(
            (MatchCondition("prefix", ("a",)), MatchCondition("suffix", ("c",))), max_depth=2
        ),
        ListNamespacesOp((MatchCondition("prefix", ("a_",)),)),
        ListNamespacesOp((MatchCondition("prefix", ("none",)),)),
    ],
)
def test_namespaces__are_listed_as_langgraphs_memory_store_does(
    store: PostgresStore, op: ListNamespacesOp
) -> None:
    memory = InMemoryStore()
    for each in (store, memory):
        each.batch([PutOp(namespace, "k", {}) for namespace in NAMESPACES])
    assert store.batch([op]) == memory.batch([op])


def test_expired_item__is_gone_before_it_is_swept(store: PostgresStore, engine: Engine) -> None:
    store.put(("t",), "short", {"n": 1}, ttl=10)
    store.put(("t",), "long", {"n": 1})
    expire(engine, "short")
    assert store.get(("t",), "short") is None
    assert keys(store.search(("t",))) == ["long"]
    with engine.begin() as tx:
        assert sweep(tx, limit=10) == 1
        assert sweep(tx, limit=10) == 0
    store.delete(("t",), "long")
    assert store.list_namespaces() == []


def test_expired_item_that_is_put_again__is_a_new_one(store: PostgresStore, engine: Engine) -> None:
    store.put(("t",), "k", {"n": 1}, ttl=10)
    first = store.get(("t",), "k")
    expire(engine, "k")
    store.put(("t",), "k", {"n": 2})
    second = store.get(("t",), "k")
    assert first is not None
    assert second is not None
    assert second.created_at > first.created_at


@pytest.mark.parametrize("refresh", [True, False])
def test_reading__prolongs_the_life_if_asked(
    store: PostgresStore, engine: Engine, refresh: bool
) -> None:
    store.put(("t",), "k", {}, ttl=10)
    with engine.begin() as tx:
        tx.exec_driver_sql(
            "UPDATE store_item SET expires_at = clock_timestamp() + interval '1 minute'"
        )
    store.get(("t",), "k", refresh_ttl=refresh)
    assert (minutes_left(engine, "k") > 9) is refresh
    with engine.begin() as tx:
        tx.exec_driver_sql(
            "UPDATE store_item SET expires_at = clock_timestamp() + interval '1 minute'"
        )
    store.search(("t",), refresh_ttl=refresh)
    assert (minutes_left(engine, "k") > 9) is refresh


def test_default_time_to_live__is_the_stores(engine: Engine) -> None:
    store = PostgresStore(engine, "default", ttl={"default_ttl": 30, "refresh_on_read": False})
    store.put(("t",), "k", {})
    assert 29 < minutes_left(engine, "k") <= 30
    store.close()


def test_tenants__do_not_see_each_other(engine: Engine, store: PostgresStore) -> None:
    other = PostgresStore(engine, "other")
    store.put(("a",), "k", {"of": "default"}, ttl=10)
    assert other.get(("a",), "k") is None
    assert other.search(()) == []
    assert other.list_namespaces() == []
    other.put(("a",), "k", {"of": "other"})
    other.delete(("a",), "k")
    found = store.get(("a",), "k")
    assert found is not None
    assert found.value == {"of": "default"}
    other.close()


def test_query_without_an_index__changes_nothing(store: PostgresStore) -> None:
    """As LangGraph documents it, and its other stores do."""
    store.put(("a",), "k", {"text": "x"}, index=["text"])
    [item] = store.search((), query="meaning")
    assert item.score is None


def test_item_that_wants_no_index__is_stored(store: PostgresStore) -> None:
    store.put(("a",), "k", {}, index=False)
    assert keys(store.search(("a",))) == ["k"]


@pytest.mark.parametrize(
    "op",
    [
        SearchOp((), filter={"a": {"$regex": "x"}}),
        SearchOp((), filter={"a": {"$gt": 1, "b": 2}}),
        SearchOp((), limit=-1),
        SearchOp((), offset=2**31),
        ListNamespacesOp(offset=-1),
        ListNamespacesOp(max_depth=2**31),
        PutOp(("a",), "k", {}, ttl=0),
        PutOp(("a",), "k", {}, ttl=1e300),
        PutOp(("a",), "k", {}, ttl=float("nan")),
        PutOp(("a.b",), "k", {}),
        PutOp(("a" * 3000,), "k", {}),
        PutOp(("a",), "k", {"a": "\0"}),
        PutOp(("a",), "k\0", {}),
        PutOp(("a\0",), "k", {}),
        PutOp(("a",), "k", {"a": "\ud800"}),
        PutOp(("a",), "k", {"a": object()}),
        PutOp(("a",), "k", {1: "a"}),  # type: ignore[dict-item]
        SearchOp(("a\0",)),
        GetOp(("a",), "\ud800"),
    ],
)
def test_what_means_nothing__is_refused(store: PostgresStore, op: Any) -> None:
    with pytest.raises(Invalid):
        store.batch([op])


def test_text_that_looks_like_an_escape__is_kept(store: PostgresStore) -> None:
    store.put(("a",), "k", {"a": "\\u0000", "b": "50% _ %(x)s '"})
    found = store.get(("a",), "k")
    assert found is not None
    assert found.value == {"a": "\\u0000", "b": "50% _ %(x)s '"}


def test_async_batch__leaves_the_loop_free(store: PostgresStore, engine: Engine) -> None:
    """While a put waits for a lock, the loop does other things."""

    async def wait_for_the_lock() -> int:
        beats = 0
        put = asyncio.create_task(store.aput(("a",), "k", {"n": 2}))
        while beats < 5:
            await asyncio.sleep(0.01)
            beats += 1
        assert not put.done()
        release.set()
        await put
        return beats

    release, locked = threading.Event(), threading.Event()

    def hold() -> None:
        with engine.begin() as tx:
            tx.exec_driver_sql("SELECT 1 FROM store_item FOR UPDATE")
            locked.set()
            release.wait(10)

    store.put(("a",), "k", {"n": 1})
    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(10)
    started = time.monotonic()
    assert asyncio.run(wait_for_the_lock()) == 5
    holder.join()
    assert time.monotonic() - started < 2
    found = store.get(("a",), "k")
    assert found is not None
    assert found.value == {"n": 2}


def test_node__uses_the_store_of_its_run(store: PostgresStore) -> None:
    async def remember(state: MessagesState, *, store: BaseStore) -> dict[str, Any]:
        await store.aput(("memories",), "last", {"text": state["messages"][-1].content})
        return {}

    graph = StateGraph(MessagesState).add_node("remember", remember).add_edge(START, "remember")
    asyncio.run(graph.compile(store=store).ainvoke({"messages": [("user", "hello")]}))
    found = store.get(("memories",), "last")
    assert found is not None
    assert found.value == {"text": "hello"}
