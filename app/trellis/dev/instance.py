"""What a running `trellis dev` tells other commands: that it runs, and where (`dev.json`)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from trellis.dev.account import make_passage
from trellis.dev.process import poll_until
from trellis.dev.server import Lock

_FILE = "dev.json"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A `trellis dev` that accepts requests."""

    url: str
    pid: int
    config: str
    database_url: str
    redis_url: str


def occupy(data_dir: Path) -> Lock:
    """
    Make a data directory ours, out of sight of git.

    :raises BlockingIOError: another `trellis dev` has it.
    """
    make_passage(data_dir)
    lock = Lock(data_dir / "dev.lock")
    (data_dir / ".gitignore").write_text("*\n")
    withdraw(data_dir)
    return lock


def publish(data_dir: Path, instance: Instance) -> None:
    """Tell who asks. Readable by this user alone, for it holds passwords."""
    draft = data_dir / f"{_FILE}.new"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(instance), file, indent=2)
    draft.rename(data_dir / _FILE)


def withdraw(data_dir: Path) -> None:
    """Tell nobody any more."""
    (data_dir / _FILE).unlink(missing_ok=True)


def running(data_dir: Path) -> Instance | None:
    """The `trellis dev` that runs on a data directory; None: none does, or it is not up yet."""
    try:
        instance = Instance(**json.loads((data_dir / _FILE).read_text()))
        Lock(data_dir / "dev.lock").release()
    except BlockingIOError:
        return instance
    except (OSError, ValueError, TypeError):
        return None
    return None


def wait_until_running(
    data_dir: Path, *, seconds: float, alive: Callable[[], bool]
) -> Instance | None:
    """The `trellis dev` on a data directory, once it is up. None: it ended instead, or was late."""
    found: list[Instance] = []

    def look() -> bool:
        instance = running(data_dir)
        found.extend([instance] if instance is not None else [])
        return bool(found) or not alive()

    poll_until(look, seconds=seconds, every=0.05)
    return found[0] if found else None
