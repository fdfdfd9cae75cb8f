import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis

from trellis.dev.embedded import Server, start_postgres, start_valkey
from trellis.dev.process import poll_until
from trellis.errors import ConfigError

Start = Callable[..., Server]

#: What a killed parent leaves to do: Postgres closes its files.
END_SECONDS = 5.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="trellis-embedded-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def start() -> Iterator[Callable[[Start, Path], Server]]:
    """Start a server that is stopped after the test."""
    started: list[Server] = []

    def call(function: Start, folder: Path, **options: Any) -> Server:
        started.append(function(folder, **options))
        return started[-1]

    yield call
    for server in started:
        server.stop()


def query(server: Server, statement: str) -> Any:
    with closing(psycopg2.connect(server.url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_start_postgres(folder: Path, start: Any) -> None:
    server = start(start_postgres, folder)

    assert query(server, "SHOW fsync") == ("on",)
    assert query(server, "SHOW server_encoding") == ("UTF8",)
    assert psutil.Process(server.pid).uids().real != 0


def test_start_postgres__for_tests(folder: Path, start: Any) -> None:
    assert query(start(start_postgres, folder, durable=False), "SHOW fsync") == ("off",)


def test_start_postgres__without_the_password(folder: Path, start: Any) -> None:
    server = start(start_postgres, folder)

    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres")
    assert (folder / "password").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_start_postgres__keeps_the_data(folder: Path, start: Any, signum: int) -> None:
    first = start(start_postgres, folder)
    query(first, "CREATE TABLE kept AS SELECT 1 AS answer")

    first.process.send_signal(signum)
    first.process.wait()
    first.stop()

    assert query(start(start_postgres, folder), "SELECT answer FROM kept") == (1,)


def test_start_postgres__while_it_runs(folder: Path, start: Any) -> None:
    start(start_postgres, folder)

    with pytest.raises(ConfigError, match="Another process runs a server"):
        start_postgres(folder)


def test_start_postgres__after_a_life_that_left_it_running(folder: Path, start: Any) -> None:
    leftover = start(start_postgres, folder)
    leftover.lock.release()

    server = start(start_postgres, folder)

    assert leftover.process.wait(END_SECONDS) == 0
    assert query(server, "SELECT 1") == (1,)


def test_start_postgres__when_its_old_process_number_is_anothers(folder: Path, start: Any) -> None:
    start(start_postgres, folder).stop()
    (folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}/data\n")

    assert query(start(start_postgres, folder), "SELECT 1") == (1,)


def test_start_postgres__after_being_killed_while_making_the_database(
    folder: Path, start: Any
) -> None:
    (folder / "data.new").mkdir()
    (folder / "data.new" / "PG_VERSION").write_text("18\n")

    assert query(start(start_postgres, folder), "SELECT 1") == (1,)


@pytest.mark.parametrize(
    ("content", "message"), [("9\n", "written by Postgres 9"), ("", "not a Postgres data")]
)
def test_start_postgres__never_touches_data_it_cannot_read(
    folder: Path, content: str, message: str
) -> None:
    version = folder / "data" / "PG_VERSION"
    version.parent.mkdir()
    version.write_text(content)

    with pytest.raises(ConfigError, match=message):
        start_postgres(folder)

    assert [path.name for path in (folder / "data").iterdir()] == ["PG_VERSION"]


def test_start_postgres__on_a_port_that_is_taken(folder: Path, start: Any, valkey: Server) -> None:
    with pytest.raises(ConfigError, match="could not create any TCP/IP sockets"):
        start_postgres(folder, port=valkey.port)

    assert query(start(start_postgres, folder), "SELECT 1") == (1,)


def test_start_valkey__keeps_the_data(folder: Path, start: Any) -> None:
    first = start(start_valkey, folder)
    with redis.Redis.from_url(first.url) as client:
        client.set("kept", "1")

    first.stop()

    with redis.Redis.from_url(start(start_valkey, folder).url) as client:
        assert client.get("kept") == b"1"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_start_valkey__without_the_password(folder: Path, start: Any) -> None:
    server = start(start_valkey, folder)

    with (
        redis.Redis(port=server.port) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_start_valkey__after_a_life_that_left_it_running(folder: Path, start: Any) -> None:
    leftover = start(start_valkey, folder)
    leftover.lock.release()

    server = start(start_valkey, folder)

    assert leftover.process.wait(END_SECONDS) == 0
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_servers_end_with_a_parent_that_is_killed(folder: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from trellis.dev.embedded import start_postgres, start_valkey\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "servers = start_postgres(folder / 'postgres'), start_valkey(folder / 'valkey')\n"
        "print(*(server.pid for server in servers), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2

        parent.kill()

    for pid in pids:
        assert poll_until(lambda pid=pid: is_gone(pid), seconds=END_SECONDS)
