"""The subgraphs of a run, as its lifecycle events tell of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Namespace = tuple[str, ...]


class Subgraphs:
    """Which subgraphs of one run have started and not ended."""

    def __init__(self) -> None:
        self._open: dict[Namespace, str] = {}

    def told(
        self, namespace: Namespace, told: Mapping[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """What clients are told of a lifecycle event of the log: its status and data."""
        status: str = told["event"]
        name, task_id = owner(namespace)
        if status != "started":
            self._open.pop(namespace, None)
            yield status, _end(status, name, _text(told.get("error")))
            return
        self._open[namespace] = name
        shown: dict[str, Any] = {"event": status, "namespace": namespace, "graph_name": name}
        shown |= {"trigger_call_id": task_id} if task_id else {}
        if call_id := told.get("tool_call_id"):
            shown["cause"] = {"type": "toolCall", "tool_call_id": call_id}
        yield status, shown

    def closed(self, status: str, error: str | None) -> Iterator[tuple[Namespace, dict[str, Any]]]:
        """The run is over, and with it the subgraphs of which nothing told the end, the inner ones first."""
        left, self._open = self._open, {}
        for namespace, name in reversed(left.items()):
            yield namespace, _end(status, name, error)


def _end(status: str, name: str, error: str | None) -> dict[str, Any]:
    return {"event": status, "graph_name": name, **({} if error is None else {"error": error})}


def owner(namespace: Namespace) -> tuple[str, str]:
    """The node that runs a subgraph, and its task. The second subgraph of a task is `…, "node:task", "1"`."""
    for segment in reversed(namespace):
        name, colon, task_id = segment.partition(":")
        if colon:
            return name, task_id
    return (namespace[-1] if namespace else ""), ""


def _text(error: Any) -> str | None:
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("error")
    return error if error is None else str(error)
