"""LangGraph's long-term memory in Postgres: items by namespace and key, with filters and a time to live."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final, Self

import orjson
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

from trellis.db.engine import Tx
from trellis.db.patience import patiently
from trellis.db.statements import sql
from trellis.errors import Invalid, NotSupported

#: Comparisons that the search statement knows; it is their only reader.
_OPERATORS: Final = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"})

Namespace = tuple[str, ...]
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
        executor: Executor | None = None,
    ) -> None:
        self.ttl_config = ttl
        self._engine = engine
        self._tenant_id = tenant_id
        self._own = None if executor else ThreadPoolExecutor(4, thread_name_prefix="store")
        self._executor = executor or self._own

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        checked = [_checked(op) for op in ops]
        return patiently(lambda: self._batch(checked), seconds=self._patience)

    def _batch(self, ops: Sequence[Op]) -> list[Result]:
        with self._engine.begin() as tx:
            results = execute(tx, ops, tenant_id=self._tenant_id)
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
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self.batch, list(ops)
        )

    def close(self) -> None:
        """Finish what is under way, and stop."""
        if self._own:
            self._own.shutdown()


def execute(tx: Tx, ops: Sequence[Op], *, tenant_id: str) -> list[Result]:
    """Do what a batch asks for, reads first. Results are in the order of `ops`."""
    results: list[Result] = [None] * len(ops)
    gets = {n: op for n, op in enumerate(ops) if isinstance(op, GetOp)}
    for n, item in _get(tx, gets, tenant_id=tenant_id):
        results[n] = item
    for n, op in enumerate(ops):
        if isinstance(op, SearchOp):
            results[n] = _search(tx, op, tenant_id=tenant_id)
        elif isinstance(op, ListNamespacesOp):
            results[n] = _list_namespaces(tx, op, tenant_id=tenant_id)
    _put(tx, [op for op in ops if isinstance(op, PutOp)], tenant_id=tenant_id)
    return results


def sweep(tx: Tx, *, limit: int) -> int:
    """Delete up to `limit` expired items. Returns how many there were."""
    return tx.exec_driver_sql(sql("store", "sweep"), {"limit": limit}).rowcount


def _checked(op: Op) -> Op:
    """
    Refuse what cannot be honoured before anything is done.

    :raises NotSupported: it takes a semantic index.
    :raises Invalid: a bound, an operator or a text that means nothing.
    """
    if isinstance(op, PutOp) and op.index:
        raise NotSupported("The store has no semantic index: 'index' must be None or False.")
    if isinstance(op, SearchOp) and op.query:
        raise NotSupported("The store has no semantic index: 'query' cannot be used.")
    if isinstance(op, SearchOp | ListNamespacesOp) and (op.limit < 0 or op.offset < 0):
        raise Invalid("limit and offset must not be negative.")
    if not isinstance(op, GetOp | SearchOp | PutOp | ListNamespacesOp):
        raise NotSupported(f"The store cannot do a {type(op).__name__}.")
    return op


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
    for n, (namespace, key, value, created_at, updated_at, _) in found.items():
        yield (
            n,
            Item(
                value=value,
                key=key,
                namespace=tuple(namespace),
                created_at=created_at,
                updated_at=updated_at,
            ),
        )


def _search(tx: Tx, op: SearchOp, *, tenant_id: str) -> list[SearchItem]:
    rows = tx.exec_driver_sql(
        sql("store", "search"),
        {
            "tenant_id": tenant_id,
            "prefix": [_text(element) for element in op.namespace_prefix],
            "beyond": _beyond(op.namespace_prefix),
            "conditions": _json(list(_conditions(op.filter or {}))),
            "limit": op.limit,
            "offset": op.offset,
        },
    ).all()
    if op.refresh_ttl:
        _refresh(tx, [(row[0], row[1]) for row in rows if row[-1]], tenant_id=tenant_id)
    return [SearchItem(tuple(row[0]), *row[1:5]) for row in rows]


def _list_namespaces(tx: Tx, op: ListNamespacesOp, *, tenant_id: str) -> list[Namespace]:
    conditions = [
        {"is_suffix": c.match_type == "suffix", "path": list(c.path)}
        for c in op.match_conditions or ()
    ]
    rows = tx.exec_driver_sql(
        sql("store", "list_namespaces"),
        {
            "tenant_id": tenant_id,
            "max_depth": op.max_depth,
            "conditions": _json(conditions),
            "limit": op.limit,
            "offset": op.offset,
        },
    )
    return [tuple(row[0]) for row in rows]


def _put(tx: Tx, ops: Iterable[PutOp], *, tenant_id: str) -> None:
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
                "values": [_json(dict(op.value or {})) for op in put],
                "ttls": [op.ttl for op in put],
            },
        )


def _refresh(tx: Tx, places: Sequence[tuple[Sequence[str], str]], *, tenant_id: str) -> None:
    if places:
        tx.exec_driver_sql(sql("store", "refresh"), {"tenant_id": tenant_id, **_columns(places)})


def _columns(places: Sequence[tuple[Sequence[str], str]]) -> dict[str, list[str]]:
    return {
        "namespaces": [_json(list(namespace)) for namespace, _ in places],
        "keys": [_text(key) for _, key in places],
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


def _json(value: Any) -> str:
    """
    JSON as jsonb takes it.

    :raises Invalid: it is no JSON, or holds a NUL, which jsonb cannot store.
    """
    try:
        text = orjson.dumps(value)
    except TypeError as error:
        raise Invalid(f"The store holds JSON only: {error}.") from error
    if rb"\u0000" in text and _holds_nul(orjson.loads(text)):
        raise Invalid("The store cannot hold the character NUL.")
    return text.decode()


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(part) for item in value.items() for part in item)
    return isinstance(value, list) and any(_holds_nul(part) for part in value)


def _text(value: str) -> str:
    """A text as a column takes it. It raises what `_json` does."""
    _json(value)
    return value
