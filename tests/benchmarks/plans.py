"""Query plans on large tables: what search, count, list, claim, sweeps and history cost, and whether they scan.

`make plans` fills a database of its own with a million threads, three runs and ten checkpoints each (minutes, about
10 GB), runs each query rolled back several times, and prints a table. It exits 1 if one takes longer than it may.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Engine, event

from benchmarks.peer import cache_folder
from trellis.db import assistants, cancel, idempotency, runs, threads, webhooks
from trellis.db.checkpoints import history
from trellis.db.checkpoints.codec import pack_body
from trellis.db.checkpoints.load import Key, load
from trellis.db.engine import new_engine
from trellis.db.migrate import migrate
from trellis.dev import embedded
from trellis.domain.ids import new_id
from trellis.domain.pages import Page

MAY_TAKE_MS = 20.0
TENANT = "default"
_TIMES = 7
_BATCH = 50_000
#: A scan of one of these is a scan too many.
_LARGE = {"thread", "run", "checkpoint", "checkpoint_blob", "checkpoint_write"}

_BODY = pack_body({"channel_versions": {}, "inline": {"messages": ["hello"]}})
_ID = "lpad(to_hex({}), 32, '0')::uuid"
_THREADS = f"""
INSERT INTO thread (thread_id, status, metadata, created_at, updated_at)
SELECT {_ID.format("i")}, CASE WHEN i %% 1000 = 0 THEN 'interrupted' ELSE 'idle' END,
       jsonb_build_object('graph_id', 'agent', 'user', 'u' || i %% 50000),
       clock_timestamp() - i * interval '1 second', clock_timestamp() - (i::bigint * 7919 %% 1000003) * interval '1 second'
  FROM generate_series(%(first)s, %(last)s) AS i
"""
_RUNS = f"""
INSERT INTO run (run_id, thread_id, assistant_id, graph_id, status, kwargs, ended_at, fence, lease_expires_at, run_after)
SELECT {_ID.format("i * 4 + n")}, {_ID.format("i")}, {_ID.format("1")}, 'agent', s.status, '{{}}',
       CASE WHEN s.status = 'success' THEN clock_timestamp() END, n,
       CASE WHEN s.status = 'running' THEN clock_timestamp() + (i %% 5 - 1) * interval '1 hour' END,
       clock_timestamp() - interval '1 minute'
  FROM generate_series(%(first)s, %(last)s) AS i
 CROSS JOIN generate_series(1, 3) AS n
 CROSS JOIN LATERAL (SELECT CASE WHEN n = 3 AND i %% 1000 = 1 THEN 'pending'
                                 WHEN n = 3 AND i %% 2000 = 2 THEN 'running' ELSE 'success' END AS status) AS s
"""
_CHECKPOINTS = f"""
INSERT INTO checkpoint (thread_id, checkpoint_id, parent_checkpoint_id, run_id, fence, body, metadata)
SELECT {_ID.format("i")}, lpad(n::text, 36, '0'), lpad((n - 1)::text, 36, '0'), {_ID.format("i * 4 + 1")}, 1,
       %(body)s, jsonb_build_object('step', n, 'source', 'loop')
  FROM generate_series(%(first)s, %(last)s) AS i
 CROSS JOIN generate_series(1, 10) AS n
"""
_WRITES = f"""
INSERT INTO checkpoint_write (thread_id, checkpoint_id, task_id, idx, channel, type, data)
SELECT {_ID.format("i")}, lpad('10', 36, '0'), {_ID.format("i")}::text, n, 'messages', 'json', '[]'
  FROM generate_series(%(first)s, %(last)s) AS i
 CROSS JOIN generate_series(0, 1) AS n
"""
#: What the triggers would have written down; of the last ten seconds, nothing is added up yet.
_TOTALS = """
WITH total AS (
    INSERT INTO thread_total
    SELECT tenant_id, count(*) - 2000 FROM thread GROUP BY tenant_id
    RETURNING tenant_id
)
INSERT INTO thread_change
SELECT tenant_id, 1 FROM total CROSS JOIN generate_series(1, 2000)
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A query as the services ask it."""

    name: str
    ask: Callable[[Connection], Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What a case took, and which large tables it read from end to end."""

    case: Case
    ms: float
    scans: Sequence[str]

    @property
    def holds(self) -> bool:
        return self.ms <= MAY_TAKE_MS and not self.scans

    def __str__(self) -> str:
        mark = "" if self.holds else "  ✗"
        return f"{self.case.name:<48} {self.ms:8.2f} ms{mark} {' '.join(self.scans)}".rstrip()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the queries on large tables.")
    parser.add_argument("--threads", type=int, default=1_000_000)
    options = parser.parse_args(argv)
    with database() as engine:
        began = time.monotonic()
        fill(engine, options.threads)
        say(f"filled in {time.monotonic() - began:.0f} s: {options.threads} threads")
        found = [measure(engine, case) for case in cases(options.threads)]
    for each in found:
        print(each)
    return 0 if all(each.holds for each in found) else 1


@contextmanager
def database() -> Iterator[Engine]:
    """A Postgres of our own, that nobody needs to survive a power cut."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="plans-", dir=cache_folder()))
    server = embedded.start_postgres(scratch / "postgres", durable=False)
    try:
        migrate(server.url)
        engine = new_engine(server.url, pool_size=2)
        yield engine
        engine.dispose()
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)


def fill(engine: Engine, count: int) -> None:
    """Write the rows, batch by batch, without the triggers; then let Postgres count them."""
    for first in range(1, count + 1, _BATCH):
        span = {"first": first, "last": min(count, first + _BATCH - 1), "body": _BODY}
        with engine.begin() as tx:
            tx.exec_driver_sql("SET LOCAL session_replication_role = replica")
            tx.exec_driver_sql("SET LOCAL statement_timeout = 0")
            for statement in (_THREADS, _RUNS, _CHECKPOINTS, _WRITES):
                tx.exec_driver_sql(statement, span)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
        tx.exec_driver_sql("SET statement_timeout = 0")
        tx.exec_driver_sql(_TOTALS)
        tx.exec_driver_sql("VACUUM ANALYZE")
        tx.exec_driver_sql("RESET statement_timeout")


_NEWEST = Page(sort_by="updated_at", sort_order="desc", limit=0, offset=0)


def cases(count: int) -> list[Case]:
    """The queries of the hot paths, of the clients' lists, and of the sweeps."""
    middle = count // 2
    thread_id = str(UUID(int=middle))
    #: The third run of every thousandth thread waits.
    pending = str(UUID(int=(middle // 1000 * 1000 + 1) * 4 + 3))
    user = {"user": "u77"}

    def search(**query: Any) -> Callable[[Connection], Any]:
        page = {"sort_by": query.pop("sort_by", "created_at"), "sort_order": "desc"}
        page |= {"limit": 10, "offset": query.pop("offset", 0)}
        return lambda tx: threads.search(
            tx, TENANT, query=threads.Query(**query), page=Page(**page)
        )

    def count_of(**query: Any) -> Callable[[Connection], Any]:
        return lambda tx: threads.count(tx, TENANT, query=threads.Query(**query))

    return [
        Case("threads: search, newest", search()),
        Case("threads: search, last changed", search(sort_by="updated_at")),
        Case("threads: search, 10 000 threads on", search(offset=10_000)),
        Case("threads: search by metadata of few", search(metadata=user)),
        Case("threads: search by metadata of all", search(metadata={"graph_id": "agent"})),
        Case("threads: search by status", search(status="interrupted")),
        Case("threads: search by ids", search(ids=[thread_id])),
        Case("threads: count by metadata of few", count_of(metadata=user)),
        Case("threads: count by status", count_of(status="interrupted")),
        Case("threads: count of all", count_of()),
        Case("threads: sweep of changes", lambda tx: threads.add_up(tx, limit=10_000)),
        Case("threads: get", lambda tx: threads.get(tx, TENANT, thread_id=thread_id)),
        Case(
            "runs: list",
            lambda tx: runs.list_(tx, TENANT, thread_id, limit=10, offset=0, status=None),
        ),
        Case(
            "runs: claim",
            lambda tx: runs.claim(tx, {pending: new_id()}, owner="plans", lease_seconds=15),
        ),
        Case("runs: sweep of lost leases", lambda tx: runs.expired(tx, patience_seconds=60)),
        Case("runs: sweep of unheard", lambda tx: runs.due(tx, limit=100, hint_ttl_seconds=30)),
        Case("runs: sweep of deadlines", cancel.time_out),
        Case("threads: sweep of temporary", runs.delete_temporary_threads),
        Case("threads: sweep of expired", lambda tx: runs.expire_threads(tx, limit=50)),
        Case("threads: search, last state", search(sort_by="state_updated_at")),
        Case(
            "threads: ids for a search by values",
            lambda tx: threads.find(tx, TENANT, query=threads.Query(), limit=10_001, page=_NEWEST),
        ),
        Case("webhooks: sweep", lambda tx: webhooks.sweep(tx, limit=100)),
        Case("idempotency keys: sweep", lambda tx: idempotency.sweep(tx, limit=100)),
        Case("checkpoints: latest", lambda tx: load(tx, [Key(thread_id, "", None)])),
        Case(
            "checkpoints: history",
            lambda tx: history.page(tx, history.Query(thread_id, ""), after=None, limit=10),
        ),
        Case(
            "assistants: search",
            lambda tx: assistants.search(
                tx,
                TENANT,
                query=assistants.Query(),
                page=Page(sort_by="created_at", sort_order="desc", limit=10, offset=0),
            ),
        ),
    ]


def measure(engine: Engine, case: Case) -> Found:
    """The median of several times, rolled back each time, and the plans of its statements."""
    asked: list[tuple[str, Any]] = []
    took: list[float] = []
    for _ in range(_TIMES):
        with engine.connect() as tx:
            asked.clear()
            hear = _listen(tx, asked)
            began = time.perf_counter()
            case.ask(tx)
            took.append((time.perf_counter() - began) * 1000)
            event.remove(tx, "before_cursor_execute", hear)
            tx.rollback()
    with engine.connect() as tx:
        plans = [_plan(tx, statement, params) for statement, params in asked]
        tx.rollback()
    return Found(case, median(took), sorted({scan for plan in plans for scan in _scans(plan)}))


def _listen(tx: Connection, asked: list[tuple[str, Any]]) -> Callable[..., None]:
    def hear(_: Any, __: Any, statement: str, params: Any, *___: Any) -> None:
        asked.append((statement, params))

    event.listen(tx, "before_cursor_execute", hear)
    return hear


def _plan(tx: Connection, statement: str, params: Any) -> Mapping[str, Any]:
    answer = tx.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", params).scalar_one()
    plan: Mapping[str, Any] = (answer if isinstance(answer, list) else orjson.loads(answer))[0]
    return plan["Plan"]


def _scans(plan: Mapping[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan" and plan["Relation Name"] in _LARGE:
        yield plan["Relation Name"]
    for below in plan.get("Plans", ()):
        yield from _scans(below)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
