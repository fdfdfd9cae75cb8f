"""Bring the schema up to date: Alembic under an advisory lock, safe to run twice and at the same time."""

from __future__ import annotations

import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from trellis.db.engine import normalize_url
from trellis.db.session import connect_args

#: Any constant will do, as long as every version of Trellis uses the same.
_LOCK = 0x7472656C


def _scripts() -> Path:
    """The migrations: inside the package when installed from a wheel, beside app/ in a checkout."""
    packaged = Path(__file__).parents[1] / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migration_engine(url: str) -> Engine:
    """An engine for schema changes: no statement timeout, and a short wait for any lock."""
    return create_engine(
        make_url(normalize_url(url)),
        poolclass=NullPool,
        connect_args=connect_args(
            statement_timeout="0", lock_timeout="5s", idle_in_transaction_session_timeout="0"
        ),
    )


def migrate(url: str) -> str:
    """Apply every pending migration. Returns the revision the schema is at."""
    engine = migration_engine(url)
    with engine.connect() as connection:
        _lock(connection)
        command.upgrade(_config(connection), "head")
        connection.commit()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
        connection.commit()
        return current(connection) or ""


def _lock(connection: Connection) -> None:
    """Wait for other migrations; without a transaction, for which CREATE INDEX CONCURRENTLY would wait in turn."""
    statement = text("SELECT pg_try_advisory_lock(:key)")
    while not connection.execute(statement, {"key": _LOCK}).scalar():
        connection.commit()
        time.sleep(0.2)
    connection.commit()


def current(connection: Connection) -> str | None:
    """The revision of the schema; None means it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()
