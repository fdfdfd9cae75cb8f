"""LangGraph's long-term memory in Postgres: items by namespace and key, with filters and a time to live."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from itertools import takewhile
from typing import Any, Final, Self

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from trellis.db.engine import Tx, is_too_slow
from trellis.db.patience import patiently
from trellis.db.statements import sql
from trellis.db.texts import as_json, as_text
from trellis.db.vault import Vault, check_unsealed, vault_of
from trellis.db.vectors import Index, Meaning, Place
from trellis.domain.filters import meets
from trellis.domain.store import MAX_TTL_MINUTES, Namespace, StoreTtl, check_place
from trellis.errors import Invalid, NotSupported

#: Comparisons that the search statement knows; it is their only reader.
_OPERATORS: Final = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"})

#: Batches of one store that are at the database at once: others need its connections too.
_AT_ONCE: Final = 4
#: Threads for async batches where there is an index: most of them wait for whoever embeds, without a connection.
_EMBEDDING_THREADS: Final = 32
_TOO_MUCH: Final = "There is more to look at than the time allows. Give a longer namespace prefix."
_NO_MEANING: Final = Meaning()
#: Encrypted items that a search with a filter reads at most, and how many at once.
_MOST_READ: Final = 10_000
_READ_AT_ONCE: Final = 500
_TOO_MANY: Final = (
    f"In an encrypted store a search with a filter reads at most {_MOST_READ} items, and there are "
    "more. Give a longer namespace prefix."
)
#: What fits an integer of Postgres's; a page beyond it does not exist.
_MAX_NUMBER: Final = 2**31 - 1

#: Called in a transaction that writes; raises what keeps it from committing.
Guard = Callable[[Tx], None]


class PostgresStore(BaseStore):
    """
    The items of one tenant.

    A batch is one transaction: its reads see what was there before it, and of several puts of a key the last counts.
    An expired item is never read, whether or not it has been swept yet. Close it, unless the executor is given.
    """

    supports_ttl = True
    _guard: Guard | None = None
    _patience = 0.0

    def __init__(
        self,
        engine: Engine,
        tenant_id: str,
        *,
        ttl: TTLConfig | None = None,
        index: Index | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.ttl_config = ttl
        self._index = index
        self._engine = engine
        self._tenant_id = tenant_id
        self._gate = threading.Semaphore(_AT_ONCE)
        self._own = (
            None
            if executor
            else ThreadPoolExecutor(
                _EMBEDDING_THREADS if index else _AT_ONCE, thread_name_prefix="store"
            )
        )
        self._executor = executor or self._own

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        checked = [_checked(op) for op in ops]
        meaning = self._index.meaning(checked) if self._index else _NO_MEANING
        return self._batch(checked, meaning)

    def _batch(self, ops: Sequence[Op], meaning: Meaning) -> list[Result]:
        try:
            return patiently(lambda: self._execute(ops, meaning), seconds=self._patience)
        except DBAPIError as error:
            if not is_too_slow(error):
                raise
            raise Invalid(_TOO_MUCH) from error

    def _execute(self, ops: Sequence[Op], meaning: Meaning) -> list[Result]:
        with self._gate, self._engine.begin() as tx:
            results = execute(tx, ops, tenant_id=self._tenant_id, meaning=meaning)
            # Last: a guard that locks a run must not hold it while others' items are waited for.
            if self._guard and any(isinstance(op, PutOp) for op in ops):
                self._guard(tx)
            return results

    def guarded(self, guard: Guard, *, patience_seconds: float) -> Self:
        """This store for one who may lose the right to write, and who waits for a database out of reach."""
        other = copy.copy(self)
        other._guard = guard
        other._patience = patience_seconds
        return other

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        # In the caller's context: what encryption handlers are told is in it.
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, copy_context().run, self.batch, list(ops)
        )

    def close(self) -> None:
        """Finish what is under way, and stop."""
        if self._own:
            self._own.shutdown()


def ttl_config(ttl: StoreTtl) -> TTLConfig:
    """What langgraph.json says of lives, in langgraph's words."""
    return {"default_ttl": ttl.default_minutes, "refresh_on_read": ttl.refresh_on_read}


def execute(
    tx: Tx, ops: Sequence[Op], *, tenant_id: str, meaning: Meaning = _NO_MEANING
) -> list[Result]:
    """Do what a batch asks for, reads first. Results are in the order of `ops`. What has no vector means nothing."""
    results: list[Result] = [None] * len(ops)
    gets = {n: op for n, op in enumerate(ops) if isinstance(op, GetOp)}
    for n, item in _get(tx, gets, tenant_id=tenant_id):
        results[n] = item
    for n, op in enumerate(ops):
        if isinstance(op, SearchOp):
            results[n] = _search(tx, op, tenant_id=tenant_id, meaning=meaning)
        elif isinstance(op, ListNamespacesOp):
            results[n] = _list_namespaces(tx, op, tenant_id=tenant_id)
    _put(tx, [op for op in ops if isinstance(op, PutOp)], tenant_id=tenant_id, meaning=meaning)
    return results


def sweep(tx: Tx, *, limit: int) -> int:
    """Delete up to `limit` expired items. Returns how many there were."""
    return tx.exec_driver_sql(sql("store", "sweep"), {"limit": limit}).rowcount


def _checked(op: Op) -> Op:
    """
    Refuse what cannot be honoured before anything is done.

    :raises NotSupported: it is none of langgraph's operations.
    :raises BadRequest, Invalid: a place, a bound, an operator or a text that means nothing.
    """
    if isinstance(op, SearchOp | ListNamespacesOp):
        _check_numbers(limit=op.limit, offset=op.offset)
    if isinstance(op, ListNamespacesOp) and op.max_depth is not None:
        _check_numbers(max_depth=op.max_depth)
    if isinstance(op, PutOp) and op.value is not None:
        _check_put(op)
    if not isinstance(op, GetOp | SearchOp | PutOp | ListNamespacesOp):
        raise NotSupported(f"The store cannot do a {type(op).__name__}.")
    return op


def _check_put(op: PutOp) -> None:
    check_place(op.namespace, op.key)
    check_unsealed(op.value or {})
    # A NaN is neither.
    if op.ttl is not None and not 0 < op.ttl <= MAX_TTL_MINUTES:
        raise Invalid(f"ttl must be a number of minutes above 0, {MAX_TTL_MINUTES} at most.")


def _check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        if not 0 <= value <= _MAX_NUMBER:
            raise Invalid(f"{name} must be from 0 to {_MAX_NUMBER}.")


def _get(tx: Tx, ops: Mapping[int, GetOp], *, tenant_id: str) -> Iterator[tuple[int, Item]]:
    if not ops:
        return
    places = list(ops)
    asked = [(op.namespace, op.key) for op in ops.values()]
    rows = tx.exec_driver_sql(
        sql("store", "get"), {"tenant_id": tenant_id, **_columns(asked)}
    ).all()
    found = {places[n - 1]: row for n, *row in rows}
    refreshed = [(row[0], row[1]) for n, row in found.items() if ops[n].refresh_ttl and row[-1]]
    _refresh(tx, refreshed, tenant_id=tenant_id)
    vault = vault_of(tx)
    for n, (namespace, key, value, created_at, updated_at, _) in found.items():
        yield (
            n,
            Item(
                value=vault.open_json(value, *_where(tenant_id, namespace, key)),
                key=key,
                namespace=tuple(namespace),
                created_at=created_at,
                updated_at=updated_at,
            ),
        )


def _where(tenant_id: str, namespace: Sequence[str], key: str) -> tuple[Any, ...]:
    """What an encrypted value is bound to."""
    return ("store", tenant_id, list(namespace), key, "value")


def _search(tx: Tx, op: SearchOp, *, tenant_id: str, meaning: Meaning) -> list[SearchItem]:
    conditions = list(_conditions(op.filter or {}))
    if conditions and vault_of(tx).is_on:
        rows = _sifted(tx, op, conditions, tenant_id=tenant_id, meaning=meaning)
    else:
        rows = _matching(tx, op, conditions, tenant_id=tenant_id, meaning=meaning)
    if op.refresh_ttl:
        _refresh(tx, [(row[0], row[1]) for row in rows if row[-1]], tenant_id=tenant_id)
    return [SearchItem(tuple(row[0]), *row[1:6]) for row in rows]


def _sifted(
    tx: Tx,
    op: SearchOp,
    conditions: Sequence[Mapping[str, Any]],
    *,
    tenant_id: str,
    meaning: Meaning,
) -> list[Sequence[Any]]:
    """The page of the rows that meet the conditions, which Postgres cannot tell."""
    found: list[Sequence[Any]] = []
    for offset in range(0, _MOST_READ + 1, _READ_AT_ONCE):
        some = op._replace(limit=_READ_AT_ONCE, offset=offset)
        rows = _matching(tx, some, [], tenant_id=tenant_id, meaning=meaning)
        found += [row for row in rows if meets(row[2], conditions)]
        if len(rows) < _READ_AT_ONCE or len(found) >= op.offset + op.limit:
            return found[op.offset : op.offset + op.limit]
    raise Invalid(_TOO_MANY)


def _matching(
    tx: Tx,
    op: SearchOp,
    conditions: Sequence[Mapping[str, Any]],
    *,
    tenant_id: str,
    meaning: Meaning,
) -> list[Sequence[Any]]:
    query = meaning.queries.get(op.query) if op.query else None
    order = "nearest" if query else "newest"
    rows = tx.exec_driver_sql(
        # Not a CTE: the planner would compute it apart, for it reads the clock.
        sql("store", order).replace("(matching)", f"({sql('store', 'matching')})"),
        {
            "tenant_id": tenant_id,
            "prefix": [as_text(element) for element in op.namespace_prefix],
            "beyond": _beyond(op.namespace_prefix),
            "conditions": as_json(conditions),
            "query": query,
            "dims": meaning.dims,
            "limit": op.limit,
            "offset": op.offset,
        },
    )
    vault = vault_of(tx)
    return [
        (namespace, key, vault.open_json(value, *_where(tenant_id, namespace, key)), *rest)
        for namespace, key, value, *rest in rows
    ]


def _list_namespaces(tx: Tx, op: ListNamespacesOp, *, tenant_id: str) -> list[Namespace]:
    conditions = [
        {"is_suffix": c.match_type == "suffix", "path": list(c.path)}
        for c in op.match_conditions or ()
    ]
    first = _known_prefix(op)
    rows = tx.exec_driver_sql(
        sql("store", "list_namespaces"),
        {
            "tenant_id": tenant_id,
            "first": [as_text(label) for label in first],
            "beyond": _beyond(first),
            "max_depth": op.max_depth,
            "conditions": as_json(conditions),
            "limit": op.limit,
            "offset": op.offset,
        },
    )
    return [tuple(row[0]) for row in rows]


def _known_prefix(op: ListNamespacesOp) -> Namespace:
    """The labels that every match begins with, as far as the conditions name them."""
    prefixes = [c.path for c in op.match_conditions or () if c.match_type == "prefix"]
    named = [tuple(takewhile(lambda label: label != "*", path)) for path in prefixes]
    return max(named, key=len, default=())


def _put(tx: Tx, ops: Iterable[PutOp], *, tenant_id: str, meaning: Meaning) -> None:
    last = {(op.namespace, op.key): op for op in ops}
    # In the order of the keys, so that two batches that put the same ones do not wait for each other in a circle.
    deleted = sorted(place for place, op in last.items() if op.value is None)
    put = [op for _, op in sorted(last.items()) if op.value is not None]
    if deleted:
        tx.exec_driver_sql(sql("store", "delete"), {"tenant_id": tenant_id, **_columns(deleted)})
    if put:
        tx.exec_driver_sql(
            sql("store", "put"),
            {
                "tenant_id": tenant_id,
                **_columns([(op.namespace, op.key) for op in put]),
                "values": [_sealed(vault_of(tx), tenant_id, op) for op in put],
                "ttls": [op.ttl for op in put],
            },
        )
        places = [(op.namespace, op.key) for op in put]
        _put_vectors(tx, places, tenant_id=tenant_id, meaning=meaning)


def _sealed(vault: Vault, tenant_id: str, op: PutOp) -> str | None:
    text = as_json(dict(op.value or {}))
    return vault.seal_json(text, *_where(tenant_id, op.namespace, op.key))


def _put_vectors(tx: Tx, places: Sequence[Place], *, tenant_id: str, meaning: Meaning) -> None:
    """Replace the vectors of items that were put just now, and are therefore locked."""
    # Without an index too: an old vector would lie once there is one again.
    forgotten = {"tenant_id": tenant_id, **_columns(places)}
    tx.exec_driver_sql(sql("store", "forget_vectors"), forgotten)
    rows = [(place, n, v) for place in places for n, v in enumerate(meaning.items.get(place, ()))]
    if rows:
        tx.exec_driver_sql(
            sql("store", "put_vectors"),
            {
                "tenant_id": tenant_id,
                **_columns([place for place, _, _ in rows]),
                "numbers": [n for _, n, _ in rows],
                "dims": meaning.dims,
                "embeddings": [vector for _, _, vector in rows],
            },
        )


def _refresh(tx: Tx, places: Sequence[tuple[Sequence[str], str]], *, tenant_id: str) -> None:
    if places:
        tx.exec_driver_sql(sql("store", "refresh"), {"tenant_id": tenant_id, **_columns(places)})


def _columns(places: Sequence[tuple[Sequence[str], str]]) -> dict[str, list[str]]:
    return {
        "namespaces": [as_json(list(namespace)) for namespace, _ in places],
        "keys": [as_text(key) for _, key in places],
    }


def _beyond(prefix: Namespace) -> list[str] | None:
    """The first namespace behind all that begin with the prefix: no text lies between `x` and `x\\1`."""
    return [*prefix[:-1], prefix[-1] + "\1"] if prefix else None


def _conditions(wanted: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """A filter as a flat list of comparisons; a dict in it is looked into, as InMemoryStore does."""
    for key, value in wanted.items():
        yield from _condition([*path, key], value)


def _condition(path: Sequence[str], value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, Mapping):
        yield {"path": path, "operator": "$eq", "operand": value}
    elif any(key.startswith("$") for key in value):
        for operator, operand in value.items():
            if operator not in _OPERATORS:
                raise Invalid(f"A filter knows {', '.join(sorted(_OPERATORS))}, not '{operator}'.")
            yield {"path": path, "operator": operator, "operand": operand}
    else:
        yield {"path": path, "operator": "object", "operand": None}
        yield from _conditions(value, tuple(path))
