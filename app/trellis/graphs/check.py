"""`trellis check`: loads every graph and says, a line each, what it is or why it cannot be served."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from trellis.errors import ConfigError, GraphLoadError
from trellis.graphs import embeddings, loader, own_checkpointer, own_store, priorities
from trellis.graphs import manifest as manifests
from trellis.graphs.registry import Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    graph_id: str
    good: bool
    text: str
    place: str = ""


def run(manifest_path: Path | None) -> int:
    """Print what each graph is; 0 if all of them can be served, else 1."""
    try:
        manifest = manifests.load(manifest_path)
    except ConfigError as error:
        _print(f"✗ {error}")
        return 1
    registry = Registry(manifest)
    # Before there is an event loop: a module may call asyncio.run() while it is imported.
    registry.load_all()
    try:
        embeddings.load(manifest)
        own_store.load(manifest)
        own_checkpointer.load(manifest)
        priorities.load(manifest)
        _ = registry.trusted
    except ConfigError as error:
        _print(f"✗ {error}")
        return 1
    lines = asyncio.run(_examine(registry))
    good = sum(line.good for line in lines)
    _print(f"{manifest.path}\n")
    for row in _table(lines):
        _print(row)
    for warning in manifest.warnings:
        _print(f"! {warning}")
    _print(f"\n{_summary(good, len(lines))}")
    return 0 if good == len(lines) else 1


async def _examine(registry: Registry) -> list[_Line]:
    return [await _line(registry, graph_id) for graph_id in registry.graph_ids]


async def _line(registry: Registry, graph_id: str) -> _Line:
    from langgraph.store.memory import InMemoryStore

    try:
        loaded = registry.load(graph_id)
        # A factory shows only when called whether it returns a graph.
        async with registry.open(graph_id, access_context="assistants.read", store=InMemoryStore()):
            pass
    except GraphLoadError as error:
        return _Line(graph_id=graph_id, good=False, text=" ".join(error.reason.split()))
    place = loader.shorten(registry.manifest, loaded.file)
    line = f":{loaded.line}" if loaded.line else ""
    return _Line(graph_id=graph_id, good=True, text=loaded.kind, place=f"{place}{line}")


def _table(lines: list[_Line]) -> list[str]:
    id_width = max(len(line.graph_id) for line in lines)
    kind_width = max((len(line.text) for line in lines if line.good), default=0)
    return [
        f"{'✓' if line.good else '✗'} {line.graph_id:{id_width}}  "
        + (f"{line.text:{kind_width}}  {line.place}" if line.good else line.text)
        for line in lines
    ]


def _summary(good: int, total: int) -> str:
    if good < total:
        return f"{good} of {total} graphs can be served."
    return "The graph can be served." if total == 1 else f"All {total} graphs can be served."


def _print(text: str) -> None:
    """Print, also where the terminal's encoding knows no check mark."""
    encoding = sys.stdout.encoding or "utf-8"
    marks = {"✓": "ok", "✗": "FAIL"}
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for mark, word in marks.items():
            text = text.replace(mark, word)
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    print(text)
