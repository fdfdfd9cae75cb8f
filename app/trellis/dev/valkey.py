"""Run Valkey (or Redis) on a folder: retire a leftover, start, wait."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import signal
import socket
from pathlib import Path

from trellis.dev.account import make_passage
from trellis.dev.binaries import find_valkey
from trellis.dev.process import any_port, poll_until, spawn
from trellis.dev.server import Server, lock_folder, open_log

_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
# Hints and events survive a restart; at most a second of them is lost with the machine.
appendonly yes
appendfsync everysec
save ""
# A full broker must refuse, never forget.
maxmemory-policy noeviction
# A database per test.
databases 1024
daemonize no
loglevel warning
"""


def launch_valkey(data_dir: Path, *, port: int | None = None) -> Server:
    """
    Start Valkey on a folder without waiting for it.

    :raises ConfigError: there is no such program, or the folder is in use.
    """
    program = find_valkey()
    data_dir = data_dir.resolve()
    make_passage(data_dir)
    lock = lock_folder(data_dir)
    try:
        config = data_dir / "valkey.conf"
        previous = _read_config(config)
        _retire_leftover(previous)
        port = port or any_port()
        # Kept, so that clients of a server that is started again on its port stay welcome.
        password = previous[1] if previous is not None else secrets.token_hex(16)
        _write_private(config, _CONFIG.format(port=port, password=password, folder=data_dir))
        log = data_dir / "valkey.log"
        with open_log(log) as output:
            process = spawn(
                [program, config], dies_with=signal.SIGTERM, output=output, folder=Path("/")
            )
    except BaseException:
        lock.release()
        raise
    return Server(
        name="Valkey",
        url=f"redis://:{password}@127.0.0.1:{port}/0",
        folder=data_dir,
        port=port,
        process=process,
        lock=lock,
        log=log,
        stop_signal=signal.SIGTERM,
        answers=functools.partial(_answers, port, password),
    )


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _read_config(config: Path) -> tuple[int, str] | None:
    """Port and password of the last start. None: there was none."""
    text = config.read_text() if config.exists() else ""
    port = re.search(r"^port (\d+)$", text, re.MULTILINE)
    password = re.search(r"^requirepass (\w+)$", text, re.MULTILINE)
    return None if port is None or password is None else (int(port[1]), password[1])


def _retire_leftover(previous: tuple[int, str] | None) -> None:
    """Stop the Valkey that a previous life left running; it is ours if it knows the password."""
    if previous is None or not _answers(*previous):
        return
    _ask(*previous, "SHUTDOWN")
    poll_until(lambda: not _answers(*previous), seconds=20)


def _answers(port: int, password: str) -> bool:
    return _ask(port, password, "PING") == b"+OK\r\n+PONG\r\n"


def _ask(port: int, password: str, command: str) -> bytes:
    """What the server says to a command; nothing when it is not there or not ours."""
    answer = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=2) as connection,
    ):
        connection.sendall(f"AUTH {password}\r\n{command}\r\n".encode())
        while answer.count(b"\r\n") < 2 and (more := connection.recv(1024)):
            answer += more
    return answer
