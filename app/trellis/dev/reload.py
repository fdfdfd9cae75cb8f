"""Notice that the user's project changed."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchfiles import Change

_IGNORED = frozenset(
    {".trellis", ".langgraph_api", ".venv", "venv", ".git", "node_modules", "__pycache__"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".tox", ".idea", "site-packages"}
)


def is_available() -> bool:
    """Whether watchfiles is installed."""
    return importlib.util.find_spec("watchfiles") is not None


def matters(path: Path, *, manifest: Path) -> bool:
    """Whether a changed file calls for a restart: Python, the manifest, or an environment file."""
    if _IGNORED.intersection(path.parts[len(manifest.parent.parts) :]):
        return False
    return path == manifest or path.suffix == ".py" or path.name.startswith(".env")


def watch_project(
    manifest: Path, folders: Iterable[Path], *, changed: Callable[[list[Path]], None]
) -> None:
    """
    Call `changed`, from threads of this function's, whenever files that matter change.

    The top of each folder is watched apart from its subfolders, of which only the user's are: a
    watch on everything would put one on each folder of a virtual environment.
    """
    roots = list(dict.fromkeys([manifest.parent, *folders]))
    watched = _subfolders(roots)
    rescan = threading.Event()

    def report(changes: set[tuple[Change, str]]) -> None:
        paths = sorted(Path(path) for _, path in changes)
        if relevant := [path for path in paths if matters(path, manifest=manifest)]:
            changed(relevant)

    def watch_tops() -> None:
        for changes in _changes(roots, recursive=False, stop=None):
            report(changes)
            if _subfolders(roots) != watched:
                rescan.set()

    def watch_subfolders() -> None:
        while True:
            rescan.clear()
            watched[:] = _subfolders(roots)
            if not watched:
                rescan.wait()
                continue
            for changes in _changes(watched, recursive=True, stop=rescan):
                report(changes)

    for target in (watch_tops, watch_subfolders):
        threading.Thread(target=target, daemon=True).start()


def _changes(
    paths: Sequence[Path], *, recursive: bool, stop: threading.Event | None
) -> Iterator[set[tuple[Change, str]]]:
    from watchfiles import watch

    yield from watch(
        *paths,
        watch_filter=None,
        recursive=recursive,
        stop_event=stop,
        # Milliseconds: an editor's save and a checkout of many files are each one change.
        debounce=400,
        step=50,
        ignore_permission_denied=True,
    )


def _subfolders(roots: Iterable[Path]) -> list[Path]:
    return sorted(
        path
        for root in roots
        for path in root.iterdir()
        if path.is_dir() and path.name not in _IGNORED
    )
