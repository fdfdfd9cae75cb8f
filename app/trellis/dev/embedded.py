"""A real Postgres and a real Valkey of one's own, without installing or configuring any."""

from __future__ import annotations

from pathlib import Path

from trellis.dev.postgres import launch_postgres
from trellis.dev.server import Server
from trellis.dev.valkey import launch_valkey

__all__ = ["Server", "launch_postgres", "launch_valkey", "start_postgres", "start_valkey"]


def start_postgres(data_dir: Path, *, port: int | None = None, durable: bool = True) -> Server:
    """
    Start Postgres on a folder and return when it answers. The folder's data is kept and found again.

    Call from the main thread. `durable=False` is for tests: faster, and lost with the machine.

    :raises ConfigError: it cannot run here, or the folder is in use or of another major version.
    """
    server = launch_postgres(data_dir, port=port, durable=durable)
    server.wait_ready()
    return server


def start_valkey(data_dir: Path, *, port: int | None = None) -> Server:
    """
    Start Valkey on a folder and return when it answers. Call from the main thread.

    :raises ConfigError: there is no such program, or the folder is in use.
    """
    server = launch_valkey(data_dir, port=port)
    server.wait_ready()
    return server
