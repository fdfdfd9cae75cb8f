"""What workers publish of the graphs they have loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from trellis.db.engine import Tx

_PUBLISH = """
INSERT INTO graph (graph_id, description, state_channels, initial_values, info, load_error)
VALUES (%(graph_id)s, %(description)s, %(state_channels)s::jsonb, %(initial_values)s::jsonb, %(info)s::jsonb, %(load_error)s)
    ON CONFLICT (graph_id) DO UPDATE
   SET description = excluded.description,
       state_channels = excluded.state_channels,
       initial_values = excluded.initial_values,
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
    tx.exec_driver_sql(
        _PUBLISH,
        {
            "graph_id": graph_id,
            "description": description,
            "state_channels": _json((info or {}).get("state_channels")),
            "initial_values": _json((info or {}).get("initial_values")),
            "info": _json(info),
            "load_error": load_error,
        },
    )


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
