"""What is in the tables: how much a turn writes, whose rows they are, and in what order they appear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, MessagesState, StateGraph
from sqlalchemy import Engine, event

from trellis.db.checkpoints import Backend, Cache, DirectBackend, Key, Rows, load
from trellis.db.checkpoints.saver import Saver
from trellis.db.engine import Tx
from trellis.db.serde import serializer
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim
from trellis.errors import Fenced

T = TypeVar("T")
NewSaver = Callable[[], Saver]
Count = Callable[[], tuple[int, int, int]]


def of(thread_id: str, checkpoint_id: str | None = None) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": "",
            "checkpoint_id": checkpoint_id,
        }
    }


def put(
    saver: Saver, config: RunnableConfig, values: dict[str, Any], versions: dict[str, Any]
) -> RunnableConfig:
    """Store a checkpoint whose channels have all changed."""
    checkpoint = {**empty_checkpoint(), "channel_values": values, "channel_versions": versions}
    return saver.put(config, checkpoint, {"source": "loop", "step": 1}, versions)  # type: ignore[arg-type]


def values_of(saver: Saver, config: RunnableConfig) -> dict[str, Any]:
    found = saver.get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]


def chat() -> Any:
    async def answer(_: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("the answer is a text of about this length " * 3)]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()


def run(saver: Saver, thread_id: str, messages: int = 1) -> None:
    graph = chat().copy({"checkpointer": saver})
    question = [HumanMessage(f"question {n} about something or other") for n in range(messages)]
    asyncio.run(graph.ainvoke({"messages": question}, of(thread_id)))


def bytes_stored(engine: Engine) -> int:
    with engine.connect() as tx:
        return sum(
            tx.exec_driver_sql(
                f"SELECT coalesce(sum(pg_column_size(t.*)), 0) FROM {table} t"
            ).scalar_one()
            for table in ("checkpoint", "checkpoint_blob", "checkpoint_write")
        )


def test_turn__costs_the_same_on_a_long_conversation(engine: Engine, new_saver: NewSaver) -> None:
    thread_id = new_id()
    run(new_saver(), thread_id, messages=999)
    before = bytes_stored(engine)
    for _ in range(16):
        run(new_saver(), thread_id)
    assert (bytes_stored(engine) - before) / 16 < 5000
    assert len(values_of(new_saver(), of(thread_id))["messages"]) == 1032


def test_turn__writes_few_rows(new_saver: NewSaver, count: Count) -> None:
    run(new_saver(), new_id())
    # Three steps; the input and two states of the messages; two writes of the input and one of the node.
    assert count() == (3, 3, 3)


def test_load__takes_three_statements_for_any_number_of_keys(
    engine: Engine, new_saver: NewSaver
) -> None:
    threads = [new_id() for _ in range(5)]
    for thread_id in threads:
        for _ in range(3):
            run(new_saver(), thread_id, messages=20)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with engine.begin() as tx:
        found = load(tx, [Key(t, "", None) for t in threads] + [Key(new_id(), "", None)])
    assert len(statements) == 3
    assert [stored and len(stored.chains["messages"].links) > 1 for stored in found] == [
        True
    ] * 5 + [None]


def test_load__answers_in_the_order_of_the_keys(engine: Engine, new_saver: NewSaver) -> None:
    thread_id = new_id()
    first = put(new_saver(), of(thread_id), {"a": 1}, {"a": "1"})["configurable"]["checkpoint_id"]
    second = put(new_saver(), of(thread_id, first), {"a": 2}, {"a": "2"})["configurable"][
        "checkpoint_id"
    ]
    keys = [
        Key(thread_id, "", first),
        Key(thread_id.upper(), "", None),
        Key(thread_id, "", "missing"),
        Key(thread_id, "other", None),
        Key(thread_id, "", first),
    ]
    with engine.begin() as tx:
        found = [stored and stored.checkpoint_id for stored in load(tx, keys)]
    assert found == [first, second, None, None, first]


def test_cache__saves_the_reading_of_values(engine: Engine, backend: DirectBackend) -> None:
    cache, thread_id = Cache(), new_id()
    run(Saver(backend, serde=serializer(), cache=cache), thread_id, messages=50)
    with engine.begin() as tx:
        (read,) = load(tx, [Key(thread_id, "", None)])
        tx.exec_driver_sql("DELETE FROM checkpoint_blob")
        (cached,) = load(tx, [Key(thread_id, "", None)], cache=cache)
    assert cached is not None
    assert read is not None
    assert cached.chains.keys() == read.chains.keys() == {"messages"}
    assert [link.data for link in cached.chains["messages"].links] == [
        link.data for link in read.chains["messages"].links
    ]


def test_small_values__need_no_rows_of_their_own(new_saver: NewSaver, count: Count) -> None:
    values = {
        "a": None,
        "b": 1,
        "c": 1.5,
        "d": True,
        "e": "x" * 64,
        "f": "x" * 65,
        "g": [],
        "gone": None,
    }
    versions = dict.fromkeys(values, "00000001.aa")
    del values["gone"]
    config = put(new_saver(), of(new_id()), values, versions)
    assert values_of(new_saver(), config) == values
    assert count() == (1, 2, 0)


def test_special_writes__replace_and_others_do_not(new_saver: NewSaver) -> None:
    saver = new_saver()
    config = put(saver, of(new_id()), {}, {})
    saver.put_writes(config, [("a", 1), ("__error__", "first")], "task", "path")
    saver.put_writes(config, [("a", 2), ("__error__", "second")], "task", "path")
    saver.put_writes(config, [("b", 3)], "another", "")
    found = saver.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [
        ("another", "b", 3),
        ("task", "__error__", "second"),
        ("task", "a", 1),
    ]


def test_rows_of_one_round__are_settled_as_if_they_came_one_by_one(
    engine: Engine, backend: DirectBackend
) -> None:
    collected = Rows()

    class Collect(Behind):
        def write_behind(self, rows: Rows) -> None:
            collected.extend(rows)

    saver = claimed(Collect(backend), thread_id := new_id())
    config = put(saver, of(thread_id), {"a": 1}, {"a": "1"})
    checkpoint_id = config["configurable"]["checkpoint_id"]
    again = {
        **empty_checkpoint(),
        "id": checkpoint_id,
        "channel_values": {"a": 2},
        "channel_versions": {"a": "2"},
    }
    saver.put(of(thread_id), again, {"step": 2}, {"a": "2"})  # type: ignore[arg-type,typeddict-item]
    saver.put_writes(config, [("a", 1), ("__interrupt__", 1)], "task")
    saver.put_writes(config, [("a", 2), ("__interrupt__", 2)], "task")
    backend.write(collected).result()
    found = Saver(backend, serde=serializer()).get_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": 2}
    assert found.metadata["step"] == 2
    assert found.pending_writes == [("task", "__interrupt__", 2), ("task", "a", 1)]


class Behind(Backend):
    """A backend as a run has it, that notes what it is asked to do without waiting."""

    def __init__(self, backend: DirectBackend) -> None:
        self.backend = backend
        self.behind = 0

    def write(self, rows: Rows) -> Future[None]:
        return self.backend.write(rows)

    def write_behind(self, rows: Rows) -> None:
        self.behind += 1
        self.backend.write_behind(rows)

    def read(self, query: Callable[[Tx], T]) -> Future[T]:
        return self.backend.read(query)


def claimed(backend: Backend, thread_id: str, **options: Any) -> Saver:
    claim = Claim(run_id=new_id(), thread_id=thread_id, fence=7, attempt=1)
    return Saver(backend, serde=serializer(), claim=claim, **options)


@pytest.mark.parametrize(("durability", "behind"), [("sync", 0), ("async", 5)])
def test_durability__decides_who_waits(
    backend: DirectBackend, durability: Any, behind: int
) -> None:
    noted, thread_id = Behind(backend), new_id()
    run(claimed(noted, thread_id, durability=durability), thread_id)
    # Three checkpoints, and the writes of the input and of the node.
    assert noted.behind == behind
    assert len(values_of(Saver(backend, serde=serializer()), of(thread_id))["messages"]) == 2


def test_durability__exit_writes_all_at_once(backend: DirectBackend) -> None:
    noted, thread_id = Behind(backend), new_id()
    saver = claimed(noted, thread_id, durability="exit")
    run(saver, thread_id)
    before = Saver(backend, serde=serializer()).get_tuple(of(thread_id))

    saver.flush()

    assert (before, noted.behind) == (None, 1)
    assert len(values_of(Saver(backend, serde=serializer()), of(thread_id))["messages"]) == 2


def test_durability__exit_lets_a_run_read_what_it_wrote(backend: DirectBackend) -> None:
    noted, thread_id = Behind(backend), new_id()
    saver = claimed(noted, thread_id, durability="exit")
    put(saver, of(thread_id), {"a": 1}, {"a": "1"})

    found = saver.get_tuple(of(thread_id))

    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": 1}
    assert noted.behind == 1


def test_claim__is_noted_in_each_checkpoint(engine: Engine, backend: DirectBackend) -> None:
    saver = claimed(Behind(backend), thread_id := new_id())
    run(saver, thread_id)
    backend.read(lambda tx: None).result()
    with engine.connect() as tx:
        rows = tx.exec_driver_sql("SELECT DISTINCT run_id::text, fence FROM checkpoint").all()
    assert [tuple(row) for row in rows] == [(saver._claim and saver._claim.run_id, 7)]


def test_lost_claim__fails_the_put(backend: DirectBackend) -> None:
    class Lost(Behind):
        def write(self, rows: Rows) -> Future[None]:
            future: Future[None] = Future()
            future.set_exception(Fenced("lost"))
            return future

    saver = claimed(Lost(backend), thread_id := new_id(), durability="sync")
    with pytest.raises(Fenced):
        put(saver, of(thread_id), {}, {})


def test_what_was_read_with_the_claim__is_not_read_again(
    engine: Engine, backend: DirectBackend
) -> None:
    thread_id = new_id()
    run(Saver(backend, serde=serializer()), thread_id)
    with engine.begin() as tx:
        (latest,) = load(tx, [Key(thread_id, "", None)])
    reads: list[object] = []

    class Noting(Behind):
        def read(self, query: Callable[[Tx], T]) -> Future[T]:
            reads.append(query)
            return super().read(query)

    saver = claimed(Noting(backend), thread_id, preloaded={Key(thread_id, "", None): latest})
    run(saver, thread_id)
    assert reads == []
    assert len(values_of(saver, of(thread_id))["messages"]) == 4
    assert len(reads) == 1


def test_list_that_was_deleted_meanwhile__is_not_built_upon(
    new_saver: NewSaver, cold_saver: Saver
) -> None:
    """A new thread under an old id: the process still remembers the old thread's list."""
    thread_id, words = new_id(), ["word " * 100] * 50
    put(new_saver(), of(thread_id), {"words": words}, {"words": "00000001.aa"})
    new_saver().delete_thread(thread_id)
    config = put(new_saver(), of(thread_id), {"words": [*words, "new"]}, {"words": "00000001.bb"})
    assert values_of(cold_saver, config) == {"words": [*words, "new"]}


turns = st.lists(
    st.tuples(
        st.sampled_from(["append", "change", "remove", "fork"]),
        st.integers(0, 10**6),
        st.lists(st.text(max_size=200), max_size=4),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(turns)
def test_every_checkpoint_of_a_thread__reads_back_as_it_was_put(
    new_saver: NewSaver, backend: DirectBackend, history: list[tuple[str, int, list[str]]]
) -> None:
    """Each turn is a run of its own: it reads, changes, and puts. Some begin at an older checkpoint."""
    thread_id = new_id()
    start = [HumanMessage("word " * 40, id=str(n)) for n in range(12)]
    version = new_saver().get_next_version(None, None)
    head = put(new_saver(), of(thread_id), {"messages": start}, {"messages": version})
    written = {head["configurable"]["checkpoint_id"]: [m.model_dump() for m in start]}
    for action, n, texts in history:
        saver = new_saver()
        if action == "fork":
            head = of(thread_id, sorted(written)[n % len(written)])
        found = saver.get_tuple(head)
        assert found is not None
        messages = list(found.checkpoint["channel_values"]["messages"])
        if action == "remove":
            del messages[n % (len(messages) + 1) :]
        elif action == "change" and messages:
            messages[n % len(messages)].additional_kwargs["n"] = n
        messages += [HumanMessage(text) for text in texts]
        version = saver.get_next_version(found.checkpoint["channel_versions"]["messages"], None)  # type: ignore[arg-type]
        head = put(saver, found.config, {"messages": messages}, {"messages": version})
        written[head["configurable"]["checkpoint_id"]] = [m.model_dump() for m in messages]
    for reader in (new_saver(), Saver(backend, serde=serializer())):
        listed = {
            found.config["configurable"]["checkpoint_id"]: found.checkpoint["channel_values"][
                "messages"
            ]
            for found in reader.list(of(thread_id))
        }
        assert {k: [m.model_dump() for m in v] for k, v in listed.items()} == written
        for checkpoint_id, messages in written.items():
            read = values_of(reader, of(thread_id, checkpoint_id))["messages"]
            assert [m.model_dump() for m in read] == messages
