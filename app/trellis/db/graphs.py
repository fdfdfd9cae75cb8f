"""What workers publish of the graphs they have loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from trellis.db.engine import Tx

_PUBLISH = """
INSERT INTO graph (graph_id, description, state_channels, info, load_error)
VALUES (%(graph_id)s, %(description)s, %(state_channels)s::jsonb, %(info)s::jsonb, %(load_error)s)
    ON CONFLICT (graph_id) DO UPDATE
   SET description = excluded.description,
       state_channels = excluded.state_channels,
       info = excluded.info,
       load_error = excluded.load_error,
       updated_at = clock_timestamp()
"""


def publish(
    tx: Tx,
    graph_id: str,
    *,
    description: str | None,
    info: Mapping[str, Any] | None,
    load_error: str | None,
) -> None:
    """Write what is known of a graph; the newest worker wins."""
    channels = info.get("state_channels") if info else None
    tx.exec_driver_sql(
        _PUBLISH,
        {
            "graph_id": graph_id,
            "description": description,
            "state_channels": None if channels is None else orjson.dumps(channels).decode(),
            "info": None if info is None else orjson.dumps(info).decode(),
            "load_error": load_error,
        },
    )
