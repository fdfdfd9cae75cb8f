"""Lends a thread's graph to a request: the one place where the web process loads user code."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from trellis.db.checkpoints import DirectBackend
from trellis.db.engine import is_of_database
from trellis.domain.access import caller
from trellis.domain.failures import describe
from trellis.domain.store import check_tenant
from trellis.errors import BadRequest, TrellisError
from trellis.runtime import Runtime
from trellis.telemetry import STATE_REFUSED, log

T = TypeVar("T")

if TYPE_CHECKING:
    from langgraph.pregel import Pregel
    from langgraph.store.base import BaseStore
    from langgraph_sdk.runtime import AccessContext

    from trellis.graphs.registry import Registry

    Graph: TypeAlias = Pregel[Any, Any, Any, Any]
    Use: TypeAlias = Callable[[Graph], Awaitable[T]]


def with_graph(
    rt: Runtime,
    graph_id: str,
    config: Mapping[str, Any],
    use: Use[T],
    *,
    backend: DirectBackend,
    access_context: AccessContext,
) -> T:
    """
    Call `use` on the process's loop with a graph whose checkpoints are the backend's, and close the backend.

    :raises NotFound: no such graph is declared.
    :raises GraphLoadError: it could not be imported.
    :raises BadRequest: its code refuses the state, or the change of it.
    """
    lending = _lend(rt, graph_id, config, use, backend, access_context)
    return rt.on_loop(lending, told="The graph took too long with the state. Try again.")


async def _lend(
    rt: Runtime,
    graph_id: str,
    config: Mapping[str, Any],
    use: Use[T],
    backend: DirectBackend,
    access_context: AccessContext,
) -> T:
    try:
        registry = await asyncio.to_thread(_import_langgraph, rt)
        lent = registry.open(
            graph_id,
            config=config,
            access_context=access_context,
            user=caller.get().user,
            store=_own_store(rt),
        )
        async with lent as graph:
            equipped = _equipped(rt, graph, backend, trusted=registry.trusted)
            equipped.store = _own_store(rt) or equipped.store
            return await _used(graph_id, use, equipped)
    finally:
        # In a thread: a query that was given up may still be running.
        await asyncio.to_thread(backend.close)


def _own_store(rt: Runtime) -> BaseStore | None:
    """The operator's own store, for conditional edges and factories. :raises NotSupported: it knows no tenants."""
    if rt.own_store is not None:
        check_tenant(caller.get().tenant_id)
    return rt.own_store


async def _used(graph_id: str, use: Use[T], graph: Graph) -> T:
    try:
        return await use(graph)
    # The edge to the user's reducers, validators and conditional edges: what they refuse, the client is told.
    except (Exception, SystemExit) as error:
        if isinstance(error, TrellisError) or is_of_database(error):
            raise
        log().warning(STATE_REFUSED, graph=graph_id, exc_info=error)
        raise BadRequest(_reason(error)) from error


def _reason(error: BaseException) -> str:
    from langgraph.errors import InvalidUpdateError

    told = describe(error)
    is_plain = isinstance(error, InvalidUpdateError)
    return told["message"] if is_plain else f"{told['error']}: {told['message']}"


def _equipped(
    rt: Runtime, graph: Graph, backend: DirectBackend, *, trusted: frozenset[type]
) -> Graph:
    from trellis.db.checkpoints.own import OwnSaver
    from trellis.db.checkpoints.saver import Saver
    from trellis.db.serde import serializer
    from trellis.db.state_types import state_types

    # Not Pregel.copy(): it drops the mappers of pydantic states.
    equipped = copy.copy(graph)
    new = Saver if rt.contents is None else partial(OwnSaver, contents=rt.contents)
    equipped.checkpointer = new(backend, serde=serializer(state_types(graph) | trusted))
    return equipped


def _import_langgraph(rt: Runtime) -> Registry:
    """In a thread, because the first time it takes a second, in which the loop must go on."""
    import_module("trellis.db.checkpoints.own")
    import_module("trellis.db.serde")
    _ = rt.registry.trusted
    return rt.registry
