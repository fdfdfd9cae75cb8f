"""Databases for tests, made and emptied as cheaply as Postgres can."""

from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2.extensions import connection as Connection

#: Versions of Postgres, as `server_version` has them.
STRATEGY_SINCE = 150000
SCRAM_ITERATIONS_SINCE = 160000

#: Not TRUNCATE: new files for every table and index take a hundred times as long. A deleted thread adds to
#: `thread_change`, so that comes later.
DELETE = r"""
SELECT string_agg(format('DELETE FROM %I', tablename), '; ' ORDER BY tablename LIKE 'thread\_%', tablename)
  FROM pg_tables
 WHERE schemaname = 'public' AND tablename <> 'alembic_version'
"""
RESTART = "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"

#: A changed relation or function, and what ANALYZE finds, is a new row of its catalog.
SCHEMA = """
SELECT count(*), max(xmin::text::bigint)
  FROM (SELECT xmin FROM pg_class UNION ALL
        SELECT xmin FROM pg_proc UNION ALL
        SELECT xmin FROM pg_statistic) AS every
"""
USERS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))


def execute(url: str, statement: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)


def version(url: str) -> int:
    with closing(psycopg2.connect(url)) as connection:
        return connection.server_version


def cheapen_logins(url: str) -> None:
    """Tests log in tens of thousands of times, and 4096 rounds of hashing are most of what that costs."""
    if version(url) >= SCRAM_ITERATIONS_SINCE:
        password = urlsplit(url).password
        execute(url, f"SET scram_iterations = 1; ALTER ROLE CURRENT_USER PASSWORD '{password}'")


def copy(url: str, name: str, source: str) -> None:
    """Make a database from another one."""
    # Page by page through the log, which is the default, costs three times as much.
    strategy = "STRATEGY file_copy" if version(url) >= STRATEGY_SINCE else ""
    execute(url, f'CREATE DATABASE "{name}" TEMPLATE "{source}" {strategy}')


def schema(url: str) -> object:
    """What differs once somebody has changed the schema."""
    with closing(psycopg2.connect(url)) as connection:
        return _first(connection, SCHEMA)


def is_emptied(url: str, untouched: object) -> bool:
    """Empty a database for the next test. False: its schema was changed, or somebody is still connected."""
    with closing(psycopg2.connect(url)) as connection, connection:
        if _first(connection, SCHEMA) != untouched or _first(connection, USERS) != (0,):
            return False
        empty(connection)
        connection.cursor().execute(RESTART)
    return True


def empty(connection: Connection) -> None:
    """Delete every row."""
    [statement] = _first(connection, DELETE)
    connection.cursor().execute(statement)


def _first(connection: Connection, query: str) -> tuple[str, ...]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        found: tuple[str, ...] = cursor.fetchone()
        return found
