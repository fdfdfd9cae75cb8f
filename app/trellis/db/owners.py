"""The leases of a worker process that died. Without SQLAlchemy: the parent of the workers is to stay small."""

from __future__ import annotations

from contextlib import closing

import psycopg2

from trellis.db.session import connect_args
from trellis.db.statements import sql


def disown(database_url: str, owner: str) -> int:
    """
    End the leases that a dead process held; any worker's rescuer goes on from there. Returns how many.

    :raises psycopg2.Error: nothing has changed; they end by themselves.
    """
    url = database_url.replace("postgresql+psycopg2://", "postgresql://", 1)
    with (
        closing(psycopg2.connect(url, **connect_args())) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql("runs", "disown"), {"owner": owner})
        connection.commit()
        return int(cursor.rowcount)
