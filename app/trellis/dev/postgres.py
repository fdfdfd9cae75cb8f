"""Run Postgres on a folder: make the database once, retire a leftover, start, wait."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg2

from trellis.dev import account as accounts
from trellis.dev.account import Account
from trellis.dev.binaries import Postgres, find_postgres
from trellis.dev.process import any_port, command_line, poll_until, spawn
from trellis.dev.server import Server, lock_folder, open_log
from trellis.errors import ConfigError

#: The builtin locale provider came with this version.
_BUILTIN_LOCALE_SINCE = 17

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # A socket's path must be short and its folder writable; TCP asks for neither.
    "unix_socket_directories": "",
    # Not in the wheels; and it slows the short queries of a run.
    "jit": "off",
    "shared_buffers": "64MB",
    # Web, workers, tests and a person with psql, all at once; an idle slot costs about 10 KB.
    "max_connections": "200",
    # Nobody replicates a laptop. Minimal makes CREATE DATABASE and bulk loads cheap.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
}

#: For tests: what was committed need not survive the machine.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


def launch_postgres(data_dir: Path, *, port: int | None = None, durable: bool = True) -> Server:
    """
    Start Postgres on a folder without waiting for it, after making the database if there is none.

    :raises ConfigError: it cannot run here, or the folder is in use or of another major version.
    """
    data_dir = data_dir.resolve()
    accounts.make_passage(data_dir)
    lock = lock_folder(data_dir)
    try:
        account = accounts.choose(data_dir / "data")
        folder = accounts.place_for(data_dir, account)
        postgres = accounts.within_reach(find_postgres(_major_of(folder / "data")), account)
        if not (folder / "data").exists():
            _make_database(postgres, folder, account=account)
        _retire_leftover(folder / "data")
        port = port or any_port()
        log = folder / "postgres.log"
        with open_log(log) as output:
            process = spawn(
                _command(postgres, folder / "data", port=port, durable=durable),
                # Fast shutdown: SIGTERM would wait for every client to leave.
                dies_with=signal.SIGINT,
                output=output,
                account=account,
                environment=_environment(),
                folder=Path("/"),
            )
    except BaseException:
        lock.release()
        raise
    url = f"postgresql://postgres:{(folder / 'password').read_text()}@127.0.0.1:{port}/postgres"
    return Server(
        name="Postgres",
        url=url,
        folder=folder,
        port=port,
        process=process,
        lock=lock,
        log=log,
        # Not durable: at once, without writing gigabytes that nobody will read.
        stop_signal=signal.SIGINT if durable else signal.SIGQUIT,
        answers=functools.partial(_answers, url),
    )


def _command(postgres: Postgres, data: Path, *, port: int, durable: bool) -> list[str | Path]:
    settings = _SETTINGS | ({} if durable else _NOT_DURABLE)
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    return [postgres.bin / "postgres", "-D", data, "-p", str(port), *options]


def _environment() -> dict[str, str]:
    """Nothing of ours: PGDATA, PGPORT or a broken LC_ALL of the user must not reach the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _major_of(data: Path) -> int | None:
    """
    The version that wrote the data. None: there is no data.

    :raises ConfigError: there is something that Postgres did not write; it is left alone.
    """
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text())
    except (OSError, ValueError):
        raise ConfigError(
            f"{data} exists and is not a Postgres data directory that this user can read. "
            "Move it away, or choose another --data-dir."
        ) from None


def _make_database(postgres: Postgres, folder: Path, *, account: Account | None) -> None:
    """Make an empty database. It takes its name when it is complete, so a kill leaves no half of one."""
    draft = folder / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password = folder / "password"
    password.unlink(missing_ok=True)
    with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(16))
    if account is not None:
        os.chown(draft, account.uid, account.gid)
        os.chown(password, account.uid, account.gid)
    _initdb(postgres, draft, password=password, account=account)
    draft.rename(folder / "data")


def _initdb(postgres: Postgres, data: Path, *, password: Path, account: Account | None) -> None:
    # Collation by code point, the same on every machine and after every upgrade of its libc.
    locale = ["--locale=C"]
    if postgres.major >= _BUILTIN_LOCALE_SINCE:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    login = ["-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password}"]
    answer = subprocess.run(
        [postgres.bin / "initdb", "-D", data, "--no-sync", "-E", "UTF8", *locale, *login],
        cwd="/",
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A Ctrl-C is for us; half a database would be left.
        start_new_session=True,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
        check=False,
    )
    if answer.returncode != 0:
        raise ConfigError(f"Postgres could not make a database in {data}:\n{answer.stdout}")


def _retire_leftover(data: Path) -> None:
    """
    Stop the Postgres that a previous life left running on the data; where no signal follows a
    parent's death (macOS) that is every one whose parent was killed.

    The caller holds the folder's lock, so whatever still runs there has no owner.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    if not _runs_on(data, pid):
        # The process is gone and its number may be another's, for whose sake Postgres would not start.
        pid_file.unlink(missing_ok=True)
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    if not poll_until(lambda: not _runs_on(data, pid), seconds=20):
        raise ConfigError(f"A Postgres of an earlier start (process {pid}) does not end. Kill it.")


def _runs_on(data: Path, pid: int) -> bool:
    return f"-D {data}" in command_line(pid)


def _answers(url: str) -> bool:
    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True
