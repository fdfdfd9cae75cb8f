"""Loads the hook that `priority.path` of langgraph.json names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from trellis.errors import ConfigError, GraphLoadError
from trellis.graphs import loader
from trellis.graphs.manifest import GraphSpec, Manifest

#: What the target is called in messages.
_KEY = "priority.path"

#: From a `langgraph_sdk.PriorityContext` to settings, or None.
Hook = Callable[[Any], Awaitable[Any]]


def load(manifest: Manifest) -> Hook | None:
    """
    The function that decides a thread's priority. None: langgraph.json names none. Imports the user's code.

    :raises ConfigError: it cannot be imported, or is no `langgraph_sdk.Priority` with a function.
    """
    if manifest.priority is None:
        return None
    from langgraph_sdk import Priority

    at = f'{manifest.path}: "{_KEY}"'
    spec = GraphSpec(graph_id=_KEY, target=manifest.priority)
    try:
        found = loader.import_target(manifest, spec).value
    except GraphLoadError as error:
        raise ConfigError(f"{at}: {error.reason}") from error
    if not isinstance(found, Priority):
        raise ConfigError(f"{at}: {spec.variable} is no langgraph_sdk.Priority")
    if found._assign_handler is None:
        raise ConfigError(f"{at}: {spec.variable} has no function: decorate one with @assign")
    return found._assign_handler
