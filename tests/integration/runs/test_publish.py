"""What a worker tells of its graphs, when the database is not there to hear it."""

from __future__ import annotations

import threading

from sqlalchemy import Engine, text

from trellis.dev.process import poll_until
from trellis.graphs.manifest import GraphSpec
from trellis_workers import publish

WAITING = """
    SELECT pid FROM pg_stat_activity
     WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT INTO graph %' AND datname = current_database()
"""


def wait_for_writer(engine: Engine, *, other_than: int = 0) -> int:
    """The connection that waits for our lock."""

    def found() -> list[int]:
        with engine.connect() as tx:
            return [pid for pid in tx.execute(text(WAITING)).scalars() if pid != other_than]

    assert poll_until(lambda: bool(found()), seconds=20)
    return found()[0]


def test_record__goes_on_when_its_connection_is_cut(engine: Engine, one) -> None:
    spec = GraphSpec(graph_id="told", target="./told.py:graph", description="late")
    told = threading.Thread(target=publish.record, args=(engine, spec, None, "it is broken"))
    with engine.begin() as tx:
        tx.execute(text("LOCK TABLE graph"))
        told.start()
        pid = wait_for_writer(engine)
        tx.execute(text("SELECT pg_terminate_backend(:pid, 20000)"), {"pid": pid})
        wait_for_writer(engine, other_than=pid)
    told.join(timeout=20)

    assert one("SELECT load_error FROM graph WHERE graph_id = 'told'") == "it is broken"
