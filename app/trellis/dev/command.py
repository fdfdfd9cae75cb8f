"""`trellis dev`: its options, what they default to, and its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

import trellis
from trellis.dev import instance
from trellis.errors import ConfigError
from trellis.graphs import manifest


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="The langgraph.json to serve.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=2024,
    show_default=True,
    help="Where to listen; when it is taken, the next free one.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the data is kept. Default: .trellis beside the langgraph.json.",
)
@click.option("--no-reload", is_flag=True, help="Do not restart when the project changes.")
@click.option("--slots", type=click.IntRange(1, 10_000), help="Runs at once. Default: 256.")
def dev(
    config: Path | None,
    host: str,
    port: int,
    data_dir: Path | None,
    no_reload: bool,
    slots: int | None,
) -> None:
    """
    Serve graphs on this machine: a database, a broker, the API and a worker in one command.

    Without --config: the langgraph.json of the current folder, else the demo graphs.
    DATABASE_URL and REDIS_URL, where set, replace the databases it would bring.
    """
    from trellis.dev.session import Plan, run

    path = choose_config(config, here=Path.cwd())
    try:
        plan = Plan(
            manifest=manifest.load(path),
            host=host,
            port=port,
            data_dir=choose_data_dir(data_dir, config=config, here=Path.cwd()),
            reload=not no_reload,
            slots=slots,
            database_url=given(os.environ, "DATABASE_URL", "DATABASE_URI", "POSTGRES_URI"),
            redis_url=given(os.environ, "REDIS_URL", "REDIS_URI"),
        )
        sys.exit(_alone(plan.data_dir, lambda: run(plan, say=_say)))
    except (ConfigError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _alone(data_dir: Path, serve: Callable[[], int]) -> int:
    try:
        lock = instance.occupy(data_dir)
    except BlockingIOError:
        other = instance.running(data_dir)
        where = f" at {other.url} (process {other.pid})" if other is not None else ""
        raise ConfigError(
            f"trellis dev already runs on {data_dir}{where}. "
            "Stop it, or give this one another --data-dir."
        ) from None
    try:
        return serve()
    finally:
        lock.release()


def _say(text: str) -> None:
    click.echo(f"dev    | {text}")
    sys.stdout.flush()


def choose_config(asked: Path | None, *, here: Path) -> Path:
    """The langgraph.json to serve: the asked one, else the folder's, else that of the demo."""
    own = here / manifest.FILE_NAME
    return asked or (own if own.is_file() else demo_config())


def choose_data_dir(asked: Path | None, *, config: Path | None, here: Path) -> Path:
    """Where the data goes: the asked place, else beside the asked langgraph.json, else here."""
    if asked is not None:
        return asked.absolute()
    folder = here if config is None else config if config.is_dir() else config.parent
    return folder.absolute() / ".trellis"


def demo_config() -> Path:
    """The demo's langgraph.json: inside the package when installed from a wheel, else in the checkout."""
    package = Path(trellis.__file__).parent
    packaged = package / "demo" / manifest.FILE_NAME
    if packaged.is_file():
        return packaged
    return package.parents[1] / "examples" / "demo" / manifest.FILE_NAME


def given(env: Mapping[str, str], *names: str) -> str | None:
    """The first of these variables that is set."""
    return next((value for name in names if (value := env.get(name))), None)
