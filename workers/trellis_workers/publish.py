"""Tell the front end what is known of the graphs: schemas, drawing, state channels, load errors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import Engine

from trellis.db import graphs as rows
from trellis.db.patience import patiently
from trellis.domain.access import DEFAULT_TENANT
from trellis.errors import GraphLoadError
from trellis.graphs import schemas
from trellis.graphs.manifest import GraphSpec
from trellis.telemetry import GRAPH_FAILED, log
from trellis_workers.host import Host

#: How long a database may be out of reach.
_PATIENCE_SECONDS = 600.0


def publish(host: Host, failed: Sequence[GraphLoadError]) -> None:
    """Write what every graph looks like to Postgres. A broken one is named, in the log too; the others are served."""
    errors = {error.graph_id: error for error in failed}
    for error in errors.values():
        log().error(GRAPH_FAILED, graph=error.graph_id, error=error.reason)
    for graph_id, spec in host.manifest.graphs.items():
        info, failure = (
            (None, errors[graph_id].reason) if graph_id in errors else _info(host, graph_id)
        )
        record(host.engine, spec, info, failure)


def record(
    engine: Engine, spec: GraphSpec, info: dict[str, object] | None, failure: str | None
) -> None:
    """Write what a graph looks like. A database out of reach is waited for: nothing else would tell of this graph."""

    def write() -> None:
        with engine.begin() as tx:
            rows.publish(
                tx, spec.graph_id, description=spec.description, info=info, load_error=failure
            )

    patiently(write, seconds=_PATIENCE_SECONDS)


def _info(host: Host, graph_id: str) -> tuple[dict[str, object] | None, str | None]:
    future = asyncio.run_coroutine_threadsafe(_describe(host, graph_id), host.loop)
    try:
        return future.result(), None
    except GraphLoadError as error:
        log().error(GRAPH_FAILED, graph=graph_id, error=error.reason)
        return None, error.reason


async def _describe(host: Host, graph_id: str) -> dict[str, object]:
    opened = host.registry.open(
        graph_id, config=None, access_context="assistants.read", store=host.store(DEFAULT_TENANT)
    )
    async with opened as graph:
        return schemas.info(graph)
