"""The graphs of a run as a tree: the graph itself, its subgraphs, and theirs. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from trellis.protocol.subgraphs import Namespace, owner
from trellis.protocol.translate import data_of
from trellis.stream.entries import Event, Item

Node = dict[str, Any]

#: Levels that a tree has at most: JSON that is nested much deeper is no JSON to most.
_DEEPEST = 100


def tree(graph_name: str, status: str, log: Iterable[Item]) -> Node:
    """What a run is doing, and each of its subgraphs that its log tells of."""
    root: Node = {"namespace": [], "status": status, "graph_name": graph_name}
    nodes: dict[Namespace, Node] = {(): root}
    found = _statuses(log)
    for namespace in sorted(found, key=len):
        parent = next(nodes[each] for each in _above(namespace) if each in nodes)
        name, _ = owner(namespace)
        # One whose end nobody told is as far as the run is.
        shown = found[namespace] or status
        node = {"namespace": list(namespace), "status": shown, "graph_name": name}
        nodes[namespace] = node
        parent.setdefault("children", []).append(node)
    return root


def _statuses(log: Iterable[Item]) -> dict[Namespace, str | None]:
    """The subgraphs, in the order of their starts, and how they ended. None: not yet."""
    found: dict[Namespace, str | None] = {}
    fence = 0
    for event in log:
        if not isinstance(event, Event):
            continue
        if event.fence > fence:
            # An attempt was lost. What it left open begins anew, or not at all.
            fence = event.fence
            found = {each: status for each, status in found.items() if status is not None}
        name, *namespace = event.name.split("|")
        if name == "lifecycle" and len(namespace) <= _DEEPEST:
            told = orjson.loads(data_of(event.frame))["event"]
            found[tuple(namespace)] = None if told == "started" else told
    return found


def _above(namespace: Namespace) -> Iterator[Namespace]:
    return (namespace[:depth] for depth in range(len(namespace) - 1, -1, -1))
