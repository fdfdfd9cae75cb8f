"""Assistants: find them, and give every graph the one it has by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trellis.db import assistants
from trellis.db.assistants import Query
from trellis.domain.pages import Page
from trellis.errors import GraphLoadError, NotFound, Unavailable
from trellis.runtime import Runtime

Row = Mapping[str, Any]


def ensure_defaults(rt: Runtime, tenant_id: str = "default") -> None:
    """Give every graph of the manifest its default assistant. Safe in many processes at once."""
    with rt.engine.begin() as tx:
        # In one order, so that two processes starting together do not deadlock.
        for graph_id in sorted(rt.manifest.graphs):
            assistants.ensure_default(tx, tenant_id, rt.manifest.graphs[graph_id])


def welcome(rt: Runtime, tenant_id: str) -> None:
    """Give a tenant that this process meets for the first time its default assistants."""
    if tenant_id not in rt.tenants:
        ensure_defaults(rt, tenant_id)
        rt.tenants.add(tenant_id)


def get(rt: Runtime, tenant_id: str, assistant_id: str) -> Row:
    """
    An assistant.

    :raises NotFound: there is none.
    """
    with rt.autocommit.connect() as tx:
        row = assistants.get(tx, tenant_id, assistant_id=assistant_id)
    if row is None:
        raise NotFound("Not Found")
    return row


def describe_graph(rt: Runtime, tenant_id: str, assistant_id: str) -> Row:
    """
    The graph of an assistant as workers published it: `graph_id`, and in `info` schemas and drawing.

    :raises NotFound: there is no such assistant.
    :raises GraphLoadError: the graph could not be imported.
    :raises Unavailable: no worker has loaded it yet.
    """
    with rt.autocommit.connect() as tx:
        assistant = assistants.get(tx, tenant_id, assistant_id=assistant_id)
        if assistant is None:
            raise NotFound("Not Found")
        graph = assistants.graph(tx, assistant["graph_id"])
    if graph is not None and graph["load_error"]:
        raise GraphLoadError(assistant["graph_id"], graph["load_error"])
    if graph is None or graph["info"] is None:
        raise Unavailable(f"No worker has loaded the graph '{assistant['graph_id']}' yet.")
    return graph


def search(rt: Runtime, tenant_id: str, *, query: Query, page: Page) -> Sequence[Row]:
    """
    A page of the assistants that match.

    :raises NotFound: no graph is called so.
    """
    _check_graph(rt, query)
    with rt.autocommit.connect() as tx:
        return assistants.search(tx, tenant_id, query=query, page=page)


def count(rt: Runtime, tenant_id: str, *, query: Query) -> int:
    """
    How many assistants match.

    :raises NotFound: no graph is called so.
    """
    _check_graph(rt, query)
    with rt.autocommit.connect() as tx:
        return assistants.count(tx, tenant_id, query=query)


def _check_graph(rt: Runtime, query: Query) -> None:
    if query.graph_id is not None and query.graph_id not in rt.manifest.graphs:
        raise NotFound(
            f"Graph '{query.graph_id}' not found. Expected one of: {sorted(rt.manifest.graphs)}"
        )
