"""Break the protocol on purpose: for each of its guards, a race that is lost without it, and only without it.

The named statements are changed in this process only. A guard whose removal no race here notices is not tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from chaos.invariants import overlapping
from trellis import runtime
from trellis.db import checkpoints, queries, runs, statements
from trellis.db.engine import Tx
from trellis.db.rounds import Finish, Release, Take, Write
from trellis.db.store import PostgresStore
from trellis.db.writer import Writer
from trellis.domain.idempotency import Key
from trellis.domain.ids import new_id
from trellis.domain.new_run import NewRun
from trellis.domain.runs import Claim, Outcome, RunStatus
from trellis.errors import Fenced
from trellis.services import runs as service
from trellis.settings import Settings

SUCCESS = Outcome(status=RunStatus.SUCCESS)


class World:
    """A database, and shorthands for what goes on in it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def one(self, query: str, **params: Any) -> Any:
        with self.engine.connect() as tx:
            return tx.exec_driver_sql(query, params).scalar()

    def run(self, thread_id: str | None = None) -> str:
        row = {
            "run_id": new_id(),
            "thread_id": thread_id or new_id(),
            "tenant_id": "default",
            "assistant_id": new_id(),
            "graph_id": "g",
            "multitask_strategy": "enqueue",
            "metadata": {},
            "kwargs": {},
            "after_seconds": 0,
            "timeout_seconds": 60,
            "max_crashes": 3,
            "thread_metadata": {},
            "thread_config": {},
        }
        with self.engine.begin() as tx:
            if thread_id is None:
                assert runs.enqueue_with_thread(tx, row, temporary=False)
            else:
                assert runs.enqueue(tx, row)
        return row["run_id"]

    def claim(self, run_id: str, *, lease: float = 15) -> Claim | None:
        with self.engine.begin() as tx:
            taken, _ = runs.claim(tx, {run_id: new_id()}, owner="w", lease_seconds=lease)
        return taken[0].claim if taken else None

    def rescue(self, claim: Claim) -> str | None:
        with self.engine.begin() as tx:
            return runs.rescue(tx, claim.run_id, claim.thread_id, backoff_seconds=0)

    def taken_over(self) -> tuple[Claim, Claim]:
        """An attempt whose lease ran out, and the one that runs instead of it."""
        old = self.claim(self.run(), lease=-1)
        assert old
        assert self.rescue(old) == "pending"
        new = self.claim(old.run_id)
        assert new
        return old, new

    def ask(self, item: Any) -> Any:
        """What a process's database thread answers: a result, or an exception."""
        writer = Writer(self.engine, cache=checkpoints.Cache(), patience_seconds=1)
        with closing(writer):
            future = writer.submit(item)
            return future.exception(20) or future.result()


def rows(claim: Claim) -> checkpoints.Rows:
    row = checkpoints.CheckpointRow(
        claim.thread_id, "", str(claim.fence), None, claim.run_id, claim.fence, b"\x00", "{}"
    )
    return checkpoints.Rows(checkpoints=[row])


# The races


def a_zombie_writes(world: World) -> None:
    old, _ = world.taken_over()

    answer = world.ask(Write(claim=old, rows=rows(old)))

    assert isinstance(answer, Fenced)
    assert world.one("SELECT count(*) FROM checkpoint") == 0


def a_zombie_stands_between_its_check_and_its_write(world: World) -> None:
    """Race 12: it has been let through, and the takeover comes before its rows do."""
    old = world.claim(world.run(), lease=-1)
    assert old
    with world.engine.begin() as tx:
        assert runs.hold(tx, [old])
        world.rescue(old)
        world.claim(old.run_id)
        checkpoints.insert(tx, rows(old))

    assert world.one("SELECT count(*) FROM zombie_write") == 0


def put(world: World, guard: Callable[[Tx], None]) -> Any:
    """What becomes of an item that an attempt puts into the store."""
    store = PostgresStore(world.engine, "default")
    with closing(store):
        try:
            store.guarded(guard, patience_seconds=0).put(("n",), "k", {"v": 1})
        except Fenced as error:
            return error


def a_zombie_puts_an_item(world: World) -> None:
    old, _ = world.taken_over()

    answer = put(world, lambda tx: runs.fence(tx, old))

    assert isinstance(answer, Fenced)
    assert world.one("SELECT count(*) FROM store_item") == 0


def a_zombie_stands_between_its_check_and_the_commit_of_an_item(world: World) -> None:
    old = world.claim(world.run(), lease=-1)
    assert old

    def stand(tx: Tx) -> None:
        runs.fence(tx, old)
        assert world.rescue(old) is None

    put(world, stand)

    assert world.one("SELECT count(*) FROM store_item") == 1


def the_sweep_waits_for_nobody(world: World) -> None:
    """Race 14: a zombie that froze inside a transaction holds its run, and must not hold the sweeper too."""
    old = world.claim(world.run(), lease=-1)
    assert old
    with world.engine.begin() as tx:
        assert runs.hold(tx, [old])
        try:
            rescued = world.rescue(old)
        except OperationalError:
            rescued = "waited until it was told off"

    assert rescued is None


def a_zombie_finishes(world: World) -> None:
    old, new = world.taken_over()

    answer = world.ask(Finish(claim=old, outcome=SUCCESS))

    assert isinstance(answer, Fenced)
    assert world.one("SELECT status FROM run") == "running"
    assert not isinstance(world.ask(Finish(claim=new, outcome=SUCCESS)), Fenced)


def a_zombie_releases(world: World) -> None:
    old, _ = world.taken_over()

    assert world.ask(Release(claim=old)) is None
    assert world.one("SELECT status FROM run") == "running"


def a_zombie_renews(world: World) -> None:
    old, _ = world.taken_over()

    with world.engine.begin() as tx:
        assert runs.renew(tx, [old], lease_seconds=9) == {}


def the_heartbeat_comes_before_the_sweep(world: World) -> None:
    """Race 10: the sweeper has seen an expired lease, and gets to it when it is not any more."""
    claim = world.claim(world.run(), lease=-1)
    assert claim
    with world.engine.connect() as tx:
        assert runs.expired(tx, patience_seconds=60)
    with world.engine.begin() as tx:
        runs.renew(tx, [claim], lease_seconds=9)

    assert world.rescue(claim) is None
    assert world.one("SELECT status FROM run") == "running"


def a_second_run_of_a_thread_is_hinted(world: World) -> None:
    first = world.claim(world.run())
    assert first
    second = world.run(first.thread_id)

    assert world.claim(second) is None
    assert overlapping(world.one) == 0


def the_hint_of_the_second_run_comes_first(world: World) -> None:
    """Race 5."""
    first = world.run()
    thread_id = world.one("SELECT thread_id::text FROM thread")
    second = world.run(thread_id)

    claim = world.claim(second)

    assert claim
    assert claim.run_id == first


def a_claim_is_committed_and_its_answer_lost(world: World) -> None:
    """Race 8: the same claim again must find itself, or the run waits for its own lease."""
    take = Take(run_id=world.run(), owner="w", lease_seconds=9)
    world.ask(take)
    take.retried = True

    again = world.ask(take)

    assert again is not None
    assert again.run.claim.run_id == take.run_id


Race = Callable[[World], None]


@dataclass(frozen=True)
class Mutation:
    """A guard, taken out of a statement of runs.sql."""

    race: Race
    statement: str
    guard: str
    instead: str = ""


MUTATIONS = [
    Mutation(a_zombie_writes, "hold", "AND run.fence = c.fence"),
    Mutation(a_zombie_stands_between_its_check_and_its_write, "hold", "FOR NO KEY UPDATE OF run"),
    Mutation(a_zombie_puts_an_item, "hold", "AND run.fence = c.fence"),
    Mutation(
        a_zombie_stands_between_its_check_and_the_commit_of_an_item,
        "hold",
        "FOR NO KEY UPDATE OF run",
    ),
    Mutation(the_sweep_waits_for_nobody, "lock_expired_run", "FOR UPDATE SKIP LOCKED"),
    Mutation(a_zombie_finishes, "finish", "AND run.fence = o.fence"),
    Mutation(a_zombie_releases, "release", "AND run.fence = c.fence"),
    Mutation(a_zombie_renews, "renew", "AND run.fence = c.fence"),
    Mutation(
        the_heartbeat_comes_before_the_sweep, "rescue", "AND lease_expires_at < clock_timestamp()"
    ),
    Mutation(
        a_second_run_of_a_thread_is_hinted,
        "claim",
        "AND NOT EXISTS (SELECT 1 FROM run y WHERE y.thread_id = locked.thread_id AND y.status = 'running')",
    ),
    Mutation(
        the_hint_of_the_second_run_comes_first, "claim", "ORDER BY x.seq", "ORDER BY x.seq DESC"
    ),
    Mutation(
        a_claim_is_committed_and_its_answer_lost,
        "claimed_before",
        "AND claim_id = ANY(%(claim_ids)s::uuid[])",
        "AND claim_id <> ALL(%(claim_ids)s::uuid[])",
    ),
]


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mutation], None]]:
    """Change a statement for this test."""
    queries._as_prepared.cache_clear()

    def change(mutation: Mutation) -> None:
        statement = statements.sql("runs", mutation.statement)
        assert statement.count(mutation.guard) == 1, "the statement has changed: adapt this test"
        mutated = statement.replace(mutation.guard, mutation.instead)
        monkeypatch.setitem(statements._load("runs"), mutation.statement, mutated)

    yield change
    queries._as_prepared.cache_clear()


@pytest.mark.parametrize("race", dict.fromkeys(m.race for m in MUTATIONS), ids=lambda r: r.__name__)
def test_race(world: World, race: Race) -> None:
    race(world)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.statement}-{m.race.__name__}")
def test_race__without_its_guard(
    world: World, mutate: Callable[[Mutation], None], mutation: Mutation
) -> None:
    mutate(mutation)

    # IntegrityError: the second line of defence, the constraints of the table.
    with pytest.raises((AssertionError, IntegrityError)):
        mutation.race(world)


# Publish after the commit, never before


class Witness:
    """Stands where the broker is: a hint whose run nobody else can see yet is one too early."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seen: list[bool] = []

    def __call__(self, run_id: str, graph_id: str) -> bool:
        with self._engine.connect() as tx:
            query = text("SELECT count(*) FROM run WHERE run_id = :r")
            self.seen.append(bool(tx.execute(query, {"r": run_id}).scalar()))
        return True


@pytest.fixture
def rt(audited_url: str, tmp_path: Path) -> Iterator[runtime.Runtime]:
    config = tmp_path / "langgraph.json"
    config.write_text('{"graphs": {"g": "./g.py:graph"}}')
    settings = Settings(
        database_url=audited_url, redis_url="redis://127.0.0.1:1", config_path=config
    )
    rt = runtime.build(settings)
    yield rt
    rt.close()


def create(rt: runtime.Runtime) -> None:
    service.create(rt, "default", None, NewRun(assistant_id="g"))


def create_batch(rt: runtime.Runtime) -> None:
    service.create_batch(rt, "default", [NewRun(assistant_id="g")] * 2)


def create_once(rt: runtime.Runtime) -> None:
    service.create_once(rt, "default", None, [NewRun(assistant_id="g")], key=Key("k", "f"))


CREATES = [create, create_batch, create_once]


@pytest.mark.parametrize("accept", CREATES)
def test_announce__after_the_commit(
    rt: runtime.Runtime, engine: Engine, accept: Callable[[runtime.Runtime], None]
) -> None:
    rt.announcer = witness = Witness(engine)  # type: ignore[assignment]  # what an announcer is called with

    accept(rt)

    assert witness.seen
    assert all(witness.seen)


@pytest.mark.parametrize("accept", CREATES)
def test_announce__before_the_commit_is_noticed(
    rt: runtime.Runtime,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    accept: Callable[[runtime.Runtime], None],
) -> None:
    rt.announcer = witness = Witness(engine)  # type: ignore[assignment]  # likewise
    enqueue = runs.enqueue_with_thread

    def announce_first(tx: Any, run: Any, **how: Any) -> Any:
        rt.announcer(run["run_id"], run["graph_id"])
        return enqueue(tx, run, **how)

    monkeypatch.setattr(runs, "enqueue_with_thread", announce_first)

    accept(rt)

    assert not all(witness.seen)
