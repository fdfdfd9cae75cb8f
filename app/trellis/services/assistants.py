"""Assistants: make, change, version, find and delete them, and give every graph the one it has by default."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from trellis.db import assistants, workers
from trellis.db import threads as thread_rows
from trellis.db.access import forbidden
from trellis.db.assistants import Query
from trellis.db.engine import Tx
from trellis.domain.access import Condition
from trellis.domain.assistants import aligned
from trellis.domain.metadata import check_merged
from trellis.domain.pages import Page
from trellis.errors import Conflict, GraphLoadError, Invalid, NotFound, Unavailable
from trellis.runtime import Runtime
from trellis.services import cancel

Row = Mapping[str, Any]

#: Threads that are deleted in one transaction, and so locked at once.
_BATCH = 100
#: A worker that has started tells of its graphs within a second or two; after this long it is in trouble.
_TELLS_IN_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class New:
    """An assistant that a client wants."""

    assistant_id: str
    graph_id: str
    name: str
    description: str | None
    metadata: Mapping[str, Any]
    config: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    keep_existing: bool = False  #: take one that is there already, unchanged
    allowed: Condition | None = None  #: what the metadata of such a one must meet


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What is to be different in an assistant's next version; None means as it is."""

    fields: Mapping[str, Any]  #: any of graph_id, name, description
    metadata: Mapping[str, Any]  #: merged
    config: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None


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


def create(rt: Runtime, tenant_id: str, new: New) -> Row:
    """
    Make an assistant.

    :raises NotFound: no graph is called so.
    :raises BadRequest: context and configurable contradict each other.
    :raises Conflict: the id is taken.
    """
    _check_graph(rt, new.graph_id)
    config, context = aligned(new.config, new.context)
    fields = {
        "graph_id": new.graph_id,
        "name": new.name,
        "description": new.description,
        "metadata": new.metadata,
        "config": config,
        "context": context,
    }
    stored = assistants.sealed(rt.vault, fields)
    with rt.autocommit.connect() as tx:
        row = assistants.insert(tx, tenant_id, assistant_id=new.assistant_id, fields=stored)
        if row is not None:
            return assistants.opened(rt.vault, row)
        if new.keep_existing:
            row = assistants.get(tx, tenant_id, assistant_id=new.assistant_id)
            if new.allowed and forbidden(
                tx, tenant_id, "assistants", [new.assistant_id], new.allowed
            ):
                row = None
    if row is None:
        raise Conflict(f"Assistant {new.assistant_id} already exists")
    return row


def change(rt: Runtime, tenant_id: str, assistant_id: str, wanted: Change) -> Row:
    """
    Give an assistant its next version, even if nothing changes.

    :raises NotFound: there is no such assistant, or no such graph.
    :raises BadRequest: context and configurable contradict each other.
    :raises Invalid: its metadata would grow too large.
    """
    _check_graph(rt, wanted.fields.get("graph_id"))
    settings = {}
    if wanted.config is not None or wanted.context is not None:
        settings = dict(
            zip(("config", "context"), aligned(wanted.config, wanted.context), strict=True)
        )
    if wanted.metadata:
        check_merged({**_there(rt, tenant_id, assistant_id)["metadata"], **wanted.metadata})
    fields = {**wanted.fields, **settings, "metadata": wanted.metadata}
    stored = assistants.sealed(rt.vault, fields)
    with rt.engine.begin() as tx:
        row = _locked(tx, tenant_id, assistant_id)
        changed = assistants.change(tx, assistant_id, {**row, **stored})
    return assistants.opened(rt.vault, changed)


def set_latest(rt: Runtime, tenant_id: str, assistant_id: str, *, version: int) -> Row:
    """
    Make an assistant what one of its versions is.

    :raises NotFound: there is no such assistant or version.
    """
    with rt.engine.begin() as tx:
        _locked(tx, tenant_id, assistant_id)
        row = assistants.set_latest(tx, assistant_id, version=version)
    if row is None:
        raise NotFound(f"Version {version} not found for assistant {assistant_id}")
    return assistants.opened(rt.vault, row)


def versions(
    rt: Runtime,
    tenant_id: str,
    assistant_id: str,
    *,
    metadata: Mapping[str, Any],
    limit: int,
    offset: int,
) -> Sequence[Row]:
    """
    A page of an assistant's versions, newest first.

    :raises NotFound: there is no such assistant.
    """
    _there(rt, tenant_id, assistant_id)
    with rt.autocommit.connect() as tx:
        return assistants.versions(tx, assistant_id, metadata=metadata, limit=limit, offset=offset)


def delete(
    rt: Runtime,
    tenant_id: str,
    assistant_id: str,
    *,
    with_threads: bool,
    allowed: Condition | None = None,
) -> None:
    """
    Delete an assistant with its versions and crons, and stop its runs; its (`allowed`) threads too if so wished.

    The assistant goes last: whatever is in the way, the same request can be sent again.

    :raises NotFound: there is no such assistant.
    """
    with rt.autocommit.connect() as tx:
        if assistants.get(tx, tenant_id, assistant_id=assistant_id) is None:
            raise NotFound(f"Assistant with ID {assistant_id} not found")
    if with_threads:
        _delete_threads(rt, tenant_id, assistant_id, allowed)
    cancel.of_assistant(rt, tenant_id, assistant_id)
    with rt.engine.begin() as tx:
        _locked(tx, tenant_id, assistant_id)
        assistants.delete(tx, assistant_id)


def _delete_threads(
    rt: Runtime, tenant_id: str, assistant_id: str, allowed: Condition | None
) -> None:
    query = thread_rows.Query(metadata={"assistant_id": assistant_id}, allowed=allowed)
    while True:
        with rt.autocommit.connect() as tx:
            ids = thread_rows.find(tx, tenant_id, query=query, limit=_BATCH)
        if not ids:
            return
        cancel.delete_threads(rt, tenant_id, ids)


def _there(rt: Runtime, tenant_id: str, assistant_id: str) -> Row:
    with rt.autocommit.connect() as tx:
        row = assistants.get(tx, tenant_id, assistant_id=assistant_id)
    if row is None:
        raise _not_found(assistant_id)
    return row


def _locked(tx: Tx, tenant_id: str, assistant_id: str) -> Row:
    """The assistant as it is stored."""
    row = assistants.lock(tx, tenant_id, assistant_id=assistant_id)
    if row is None:
        raise _not_found(assistant_id)
    return row


def _not_found(assistant_id: str) -> NotFound:
    return NotFound(f"Assistant {assistant_id} not found")


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
    :raises Unavailable: no worker has loaded it yet, or too many requests wait for that.
    """
    with rt.autocommit.connect() as tx:
        assistant = assistants.get(tx, tenant_id, assistant_id=assistant_id)
        if assistant is None:
            raise NotFound("Not Found")
    graph = _published(rt, assistant["graph_id"])
    if graph is not None and graph["load_error"]:
        raise GraphLoadError(assistant["graph_id"], graph["load_error"])
    if graph is None or graph["info"] is None:
        raise Unavailable(f"No worker has loaded the graph '{assistant['graph_id']}' yet.")
    return graph


def _published(rt: Runtime, graph_id: str) -> Row | None:
    """
    What workers told of a graph; waits for those that are there and have not yet.

    :raises Unavailable: so many requests wait already that others would find no thread.
    """
    graph, is_coming = _told(rt, graph_id)
    if not is_coming:
        return graph
    if not rt.waiting.acquire(blocking=False):
        raise Unavailable(f"No worker has loaded the graph '{graph_id}' yet. Try again.")
    try:
        until = time.monotonic() + _TELLS_IN_SECONDS
        while is_coming and time.monotonic() < until:
            time.sleep(0.1)
            graph, is_coming = _told(rt, graph_id)
        return graph
    finally:
        rt.waiting.release()


def _told(rt: Runtime, graph_id: str) -> tuple[Row | None, bool]:
    """What workers told of a graph, and whether to expect that they still do."""
    with rt.autocommit.connect() as tx:
        graph = assistants.graph(tx, graph_id)
        return graph, graph is None and workers.are_there(tx)


def draw(rt: Runtime, tenant_id: str, assistant_id: str, *, xray: int | None) -> Row:
    """
    The drawing of an assistant's graph, with subgraphs as deep as `xray` says; None means all of them, 0 none.

    :raises Invalid: the graph cannot be drawn.
    """
    graph = describe_graph(rt, tenant_id, assistant_id)
    info = graph["info"]
    drawings = [info["drawing"], *(info.get("xrays") or ())]
    drawing = drawings[-1] if xray is None else drawings[min(xray, len(drawings) - 1)]
    if drawing is None:
        raise Invalid(f"The graph '{graph['graph_id']}' cannot be drawn.")
    return cast(Row, drawing)


def subgraphs(
    rt: Runtime, tenant_id: str, assistant_id: str, *, namespace: str | None, recurse: bool
) -> dict[str, Row]:
    """The schemas of a graph's subgraphs by namespace: the immediate ones, all of them, or the one that is named."""
    found = describe_graph(rt, tenant_id, assistant_id)["info"].get("subgraphs") or {}
    return {
        name: schemas
        for name, schemas in found.items()
        if namespace in (None, name) and (recurse or "|" not in name)
    }


def search(rt: Runtime, tenant_id: str, *, query: Query, page: Page) -> Sequence[Row]:
    """
    A page of the assistants that match.

    :raises NotFound: no graph is called so.
    """
    _check_graph(rt, query.graph_id)
    with rt.autocommit.connect() as tx:
        return assistants.search(tx, tenant_id, query=query, page=page)


def count(rt: Runtime, tenant_id: str, *, query: Query) -> int:
    """
    How many assistants match.

    :raises NotFound: no graph is called so.
    """
    _check_graph(rt, query.graph_id)
    with rt.autocommit.connect() as tx:
        return assistants.count(tx, tenant_id, query=query)


def _check_graph(rt: Runtime, graph_id: str | None) -> None:
    if graph_id is not None and graph_id not in rt.manifest.graphs:
        raise NotFound(
            f"Graph '{graph_id}' not found. Expected one of: {sorted(rt.manifest.graphs)}"
        )
