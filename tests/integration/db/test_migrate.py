"""Migrations of an empty database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from alembic.script import ScriptDirectory

from trellis.db.migrate import migrate

NAME = f"trellis_migrations_{os.getpid()}"


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    with closing(psycopg2.connect(postgres_url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"CREATE DATABASE {NAME} TEMPLATE template0")
        yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{NAME}"))
        cursor.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def test_migrate__several_at_the_same_time(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(migrate, [empty_database_url] * 4))

    scripts = ScriptDirectory(str(Path(__file__).parents[3] / "migrations"))
    assert found == [scripts.get_current_head()] * 4
    with closing(psycopg2.connect(empty_database_url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        assert cursor.fetchall() == [(0,)]
