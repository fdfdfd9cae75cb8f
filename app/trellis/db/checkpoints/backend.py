"""Where the rows of a saver go, and where it reads them: one seam between LangGraph's calls and the database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Protocol, TypeVar

from sqlalchemy import Engine

from trellis.db.checkpoints.rows import Rows, insert, sealed
from trellis.db.engine import Tx
from trellis.db.handlers import Handlers
from trellis.db.vault import vault_of

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Backend(Protocol):
    """The database as a saver sees it. What is handed over first is visible to what is asked later."""

    @property
    def handlers(self) -> Handlers | None:
        """Whoever opens what is read, if handlers encrypt it."""
        ...

    def write(self, rows: Rows) -> Future[None]:
        """Store rows. Resolved after the commit; fails with `Fenced`, or with the database's error."""
        ...

    def write_behind(self, rows: Rows) -> None:
        """Store rows that nobody waits for. Whoever ends the run waits behind them, and learns of a failure."""
        ...

    def read(self, query: Callable[[Tx], T]) -> Future[T]:
        """Run a query behind every earlier write, in a transaction that is committed."""
        ...


class DirectBackend(Backend):
    """One transaction per call, in order, fenced by nothing: for reads through the API, and for tests."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # A checkpoint and its values are read by several statements, and a rollback may come in between.
        self._snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
        # One thread: it is what keeps reads behind writes.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")

    @property
    def handlers(self) -> Handlers | None:
        return vault_of(self._engine).handlers

    def write(self, rows: Rows) -> Future[None]:
        return self._executor.submit(self._store, rows)

    def _store(self, rows: Rows) -> None:
        # Before the transaction: handlers take their time.
        kept = sealed(rows, vault_of(self._engine))
        with self._engine.begin() as tx:
            insert(tx, kept)

    def write_behind(self, rows: Rows) -> None:
        self.write(rows).add_done_callback(_report)

    def read(self, query: Callable[[Tx], T]) -> Future[T]:
        # In the caller's context: what encryption handlers are told is in it.
        return self._executor.submit(copy_context().run, self._answer, query)

    def close(self) -> None:
        """Finish what was handed over, and stop."""
        self._executor.shutdown()

    def _answer(self, query: Callable[[Tx], T]) -> T:
        with self._snapshot.begin() as tx:
            return query(tx)


class StagedBackend(DirectBackend):
    """
    Keeps what is written in memory until its owner stores `rows`. Reads see it as if it were stored; nobody else does.

    While user code works out an update, no transaction is open and no lock is held.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.rows = Rows()

    def write(self, rows: Rows) -> Future[None]:
        return self._executor.submit(self._keep, rows)

    def _keep(self, rows: Rows) -> None:
        kept = sealed(rows, vault_of(self._engine))
        self.rows.extend(kept)
        self.rows.is_sealed = kept.is_sealed

    def _answer(self, query: Callable[[Tx], T]) -> T:
        # Never committed: the rows are there for this query only.
        with self._snapshot.connect() as tx:
            insert(tx, self.rows)
            return query(tx)


def _report(future: Future[None]) -> None:
    if error := future.exception():
        _log.error("Checkpoint rows that nobody waited for were lost.", exc_info=error)
