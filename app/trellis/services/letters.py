"""`trellis dead-letters`: what runs that ended in error were asked to do, and why they failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import orjson
from sqlalchemy.exc import SQLAlchemyError

from trellis.db import dead_letters
from trellis.db.engine import Tx, new_engine
from trellis.errors import Unavailable
from trellis.graphs import vault
from trellis.graphs.manifest import load as load_manifest
from trellis.settings import load


def lines(graph_id: str | None, run_id: str | None, limit: int) -> Iterator[str]:
    """
    The newest letters, each as JSON, decrypted with what the environment and langgraph.json name.

    :raises Unavailable: the database does not answer, or has no schema yet.
    """
    with _database() as tx:
        for letter in dead_letters.newest(tx, graph_id=graph_id, run_id=run_id, limit=limit):
            yield orjson.dumps(letter).decode()


@contextmanager
def _database() -> Iterator[Tx]:
    settings = load()
    keys = vault.build(load_manifest(settings.config_path))
    engine = new_engine(settings.database_url, pool_size=1, autocommit=True, vault=keys)
    try:
        with closing(engine.connect()) as tx:
            yield tx
    except SQLAlchemyError as error:
        why = str(error).split("\n")[0]
        raise Unavailable(f"The database cannot be asked: {why}") from error
    finally:
        engine.dispose()
