"""The engine, its connection settings, and the type of a transaction."""

from __future__ import annotations

import select
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import orjson
import psycopg2.extensions
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from trellis.db.replacements import WriteBack
from trellis.db.session import connect_args
from trellis.db.vault import Vault, guarded, vault_of
from trellis.errors import ConfigError

Tx = Connection

#: After this long a pooled connection is tried before it is used.
_IDLE_SECONDS = 5.0
#: What a server says that is no primary.
_READ_ONLY = "25006"


def normalize_url(url: str) -> str:
    """Accept every spelling platforms use: `postgres://` becomes SQLAlchemy's psycopg2 URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql", "postgresql+psycopg2"):
        raise ConfigError(
            f"DATABASE_URL must begin with postgresql://, not {parts.scheme or 'nothing'}://"
        )
    query = urlencode(parse_qsl(parts.query, keep_blank_values=True))
    return urlunsplit(("postgresql+psycopg2", parts.netloc, parts.path, query, ""))


def new_engine(
    url: str, *, pool_size: int, autocommit: bool = False, vault: Vault | None = None
) -> Engine:
    """
    Make the engine of one process, with at most `pool_size` connections. Without a vault nothing is encrypted.

    :raises ConfigError: the URL is not one of Postgres.
    """
    engine = create_engine(
        make_url(normalize_url(url)),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_use_lifo=True,
        isolation_level="AUTOCOMMIT" if autocommit else "READ COMMITTED",
        connect_args=connect_args(**_session(vault)),
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )
    _forgive_resets(engine)
    event.listen(engine, "handle_error", _leave_standby)
    event.listen(engine, "checkin", _remember_use)
    event.listen(engine, "checkout", _check_if_idle)
    return guarded(engine, vault) if vault else engine


def write_back(engine: Engine) -> None:
    """Have what decryptors replace stored, if there are handlers."""
    if handlers := vault_of(engine).handlers:
        handlers.write_back = WriteBack(engine)


def _session(vault: Vault | None) -> dict[str, str]:
    """
    The settings of connections where handlers are waited for, here and there, in a transaction.

    Longer than they may take, and shorter than a lease.
    """
    return {"idle_in_transaction_session_timeout": "12s"} if vault and vault.handlers else {}


def _forgive_resets(engine: Engine) -> None:
    """
    A connection that dies between its last answer and its return to the pool is closed, and goes back.

    SQLAlchemy sets the isolation level back there (after AUTOCOMMIT). If that fails it raises, although everything
    was answered, and never gives the connection's place in the pool back.
    """
    dialect = engine.dialect
    reset = dialect.reset_isolation_level

    def forgiving(connection: Any) -> None:
        try:
            reset(connection)
        except psycopg2.Error:
            connection.close()

    # There is no event for it.
    dialect.reset_isolation_level = forgiving  # type: ignore[method-assign, assignment]


def _leave_standby(context: ExceptionContext) -> None:
    """What refuses to write is not the primary any more, or not yet: the next connection may find the one that is."""
    if getattr(context.original_exception, "pgcode", None) == _READ_ONLY:
        context.is_disconnect = True


def _remember_use(_: Any, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _check_if_idle(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
    """
    A connection that died while idle is replaced. Asking at every checkout would cost each request a round trip.

    A server that goes says so on each connection, whoever uses it; one that is cut off does not.
    """
    if connection.closed:
        raise DisconnectionError("the connection died before it was returned")
    is_fresh = time.monotonic() - record.info.get("used_at", time.monotonic()) < _IDLE_SECONDS
    if is_fresh and not _has_news(connection):
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.rollback()
    except psycopg2.Error as error:
        raise DisconnectionError("the connection died while idle") from error


def _has_news(connection: Any) -> bool:
    """Whether the server has said something that nobody asked for."""
    sockets = select.poll()
    sockets.register(connection.fileno(), select.POLLIN)
    return bool(sockets.poll(0))


def is_of_database(error: BaseException) -> bool:
    """Whether a failure came from the database, or from our use of it."""
    return isinstance(error, SQLAlchemyError)


def is_unavailable(error: BaseException) -> bool:
    """Whether the failure says nothing about the statement: the database was out of reach."""
    # psycopg2's own: SQLAlchemy does not wrap what happens when it sets the isolation level of a connection.
    if isinstance(error, PoolTimeout | InterfaceError | psycopg2.InterfaceError):
        return True
    if isinstance(error, OperationalError | psycopg2.OperationalError):
        code = getattr(getattr(error, "orig", error), "pgcode", None)
        # None: no answer at all. 57P0x: shutting down or starting up. 08: of the connection, a pooler's as well.
        # 53300: too many connections.
        return code is None or code.startswith(("57P", "08")) or code == "53300"
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_too_slow(error: BaseException) -> bool:
    """Whether the statement ran out of time."""
    return getattr(getattr(error, "orig", None), "pgcode", None) == "57014"


def is_conflict(error: BaseException) -> bool:
    """Whether trying the same transaction again may succeed: deadlock, serialization, lock timeout."""
    orig = getattr(error, "orig", None)
    return isinstance(orig, psycopg2.extensions.TransactionRollbackError) or getattr(
        orig, "pgcode", None
    ) in ("55P03", "40001", "40P01")
