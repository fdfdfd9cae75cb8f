"""A real Postgres and a real Valkey for every test that asks; they end with pytest, even by kill -9."""

import itertools
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from databases import cheapen_logins, copy, execute, is_emptied, schema, with_path
from trellis.db.engine import new_engine
from trellis.db.migrate import migrate
from trellis.dev.embedded import Server, start_postgres, start_valkey
from trellis.dev.server import Lock

# The processes that share the tests share two cores: how long an example takes says nothing.
settings.register_profile("trellis", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trellis")

TEMPLATE = "trellis_template"
PREFIX = "trellis-tests-"
IN_USE = "in-use"

#: Every Redis has this many databases unless told otherwise; ours has more.
USUAL_REDIS_DATABASES, REDIS_DATABASES = 16, 1024


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Not pytest's own folder: that is closed to `nobody`, who runs Postgres for root."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o711)
    lock = Lock(folder / IN_USE)
    remove_leftovers(folder.parent)
    yield folder
    # Released last: another session takes a folder that nobody holds for a leftover, and removes it, too.
    shutil.rmtree(folder)
    lock.release()


def remove_leftovers(parent: Path) -> None:
    """Remove what sessions left behind that were killed."""
    for marker in parent.glob(f"{PREFIX}*/{IN_USE}"):
        with suppress(OSError):
            Lock(marker).release()
            shutil.rmtree(marker.parent)


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[Server]:
    server = start_postgres(server_folder / "postgres", durable=False)
    cheapen_logins(server.url)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey(server_folder: Path) -> Iterator[Server]:
    server = start_valkey(server_folder / "valkey")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """The server: TRELLIS_TEST_DATABASE_URL if set, else an embedded one."""
    if given := os.environ.get("TRELLIS_TEST_DATABASE_URL"):
        return given
    server: Server = request.getfixturevalue("postgres")
    return server.url


@pytest.fixture(scope="session")
def new_database(postgres_url: str) -> Iterator[Callable[[], str]]:
    """Call it for the URL of a fresh, migrated database; for fixtures of any scope."""
    numbers = itertools.count(1)
    template = f"{TEMPLATE}_{os.getpid()}"
    with ExitStack() as stack:

        def create(name: str, source: str) -> str:
            copy(postgres_url, name, source)
            # A server of our own goes with all it has; dropping hundreds takes longer than making them.
            if "TRELLIS_TEST_DATABASE_URL" in os.environ:
                stack.callback(execute, postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')
            return with_path(postgres_url, name)

        migrate(create(template, "template0"))
        yield lambda: create(f"test_{os.getpid()}_{next(numbers)}", template)


@pytest.fixture(scope="session")
def untouched(new_database: Callable[[], str]) -> object:
    """The schema as the migrations leave it."""
    return schema(new_database())


@pytest.fixture(scope="session")
def used_databases() -> deque[str]:
    """What tests have left."""
    return deque()


@pytest.fixture
def database_url(
    new_database: Callable[[], str], used_databases: deque[str], untouched: object
) -> Iterator[str]:
    """A migrated database of this test's own, with nothing in it. Emptying one is faster than making one."""
    url = ""
    while used_databases and not url:
        left = used_databases.popleft()
        url = left if is_emptied(left, untouched) else ""
    url = url or new_database()
    yield url
    used_databases.append(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Connections to this test's database."""
    engine = new_engine(database_url, pool_size=24)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def used_redis() -> deque[str]:
    """What tests have left."""
    return deque()


@pytest.fixture(scope="session")
def new_redis(request: pytest.FixtureRequest, used_redis: deque[str]) -> Callable[[], str]:
    """Call it for the URL of an empty Redis database; for fixtures of any scope."""
    given = os.environ.get("TRELLIS_TEST_REDIS_URL")
    url = given or request.getfixturevalue("valkey").url
    fresh = iter(range(1, USUAL_REDIS_DATABASES if given else REDIS_DATABASES))

    def empty() -> str:
        number = next(fresh, None)
        found = used_redis.popleft() if number is None else with_path(url, str(number))
        if given or number is None:
            with redis.Redis.from_url(found) as client:
                client.flushdb()
        return found

    return empty


@pytest.fixture
def redis_url(new_redis: Callable[[], str], used_redis: deque[str]) -> Iterator[str]:
    """An empty Redis database of this test's own."""
    url = new_redis()
    yield url
    used_redis.append(url)
