"""`trellis`: starts each kind of process by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from uuid import UUID

import click

import trellis
from trellis.dev.command import dev
from trellis.dev.demo import demo
from trellis.errors import TrellisError
from trellis.settings import config_path, load


@click.group()
@click.version_option(trellis.__version__)
def cli() -> None:
    """An open, self-hosted LangGraph Server."""


@cli.command()
def web() -> None:
    """Serve the HTTP API on PORT."""
    from trellis.asgi import serve

    serve(load())


@cli.command()
@click.option("--processes", type=click.IntRange(min=1), help="Processes that execute runs.")
def worker(processes: int | None) -> None:
    """Execute runs."""
    if processes is not None:
        os.environ["TRELLIS_WORKER_PROCESSES"] = str(processes)
    _become("trellis_workers")


@cli.command()
def migrate() -> None:
    """Bring the database schema up to date."""
    from trellis.db.migrate import migrate as apply

    click.echo(f"The schema is at revision {apply(load().database_url)}.")


@cli.command()
@click.option("--config", type=click.Path(path_type=Path), help="Path of langgraph.json.")
def check(config: Path | None) -> None:
    """Import every graph of langgraph.json and say what is wrong with it."""
    from trellis.graphs.check import run

    sys.exit(run(config or config_path(os.environ)))


@cli.command()
@click.argument("name")
@click.option("--tenant", help="Whose data the key opens; without it, that of the only tenant.")
def api_key(name: str, tenant: str | None) -> None:
    """Make an API key for NAME. It is shown once; the server keeps its SHA-256."""
    from trellis.auth.keys import new

    key, entry = new(name, tenant)
    click.echo(f"The key, for the client (X-Api-Key, or Authorization: Bearer): {key}")
    click.echo(f"For the server, in TRELLIS_API_KEYS: {entry}")


@cli.command()
@click.option("--graph", help="Only those of this graph.")
@click.option("--run", type=click.UUID, help="Only that of this run.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="At most so many.",
)
def dead_letters(graph: str | None, run: UUID | None, limit: int) -> None:
    """Show what runs that ended in error were asked to do, and why they failed: as JSON, the newest first."""
    from trellis.services import letters

    for line in letters.lines(graph, str(run) if run else None, limit):
        click.echo(line)


@cli.command()
def flower() -> None:
    """Watch runs as Celery tasks. Closed unless TRELLIS_FLOWER_BASIC_AUTH (user:password) is set."""
    settings = load()
    if settings.flower_basic_auth is None:
        raise click.ClickException(
            "Set TRELLIS_FLOWER_BASIC_AUTH to user:password to start Flower."
        )
    # In the environment, not on the command line: the password must not show in the process list.
    os.environ.update(
        FLOWER_ADDRESS=settings.host,
        FLOWER_PORT=str(settings.flower_port),
        FLOWER_BASIC_AUTH=settings.flower_basic_auth,
        # Shutting workers down from a web page is not watching.
        FLOWER_READ_ONLY="true",
    )
    _become("celery", "-A", "trellis_workers", "flower")


def _become(module: str, *arguments: str) -> None:
    """
    Go on as another program. -P: the current folder stays off sys.path.

    It is the user's project, and a file called redis.py in it must not replace the library.
    """
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])


cli.add_command(dev)
cli.add_command(demo)


def main() -> None:
    """Entry point: what the operator did wrong is one line, not a traceback."""
    try:
        cli()
    except TrellisError as error:
        click.echo(f"trellis: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
