"""Loads the hook that `priority.path` of langgraph.json names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from trellis.errors import ConfigError
from trellis.graphs import loader
from trellis.graphs.manifest import Manifest

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

    found, at = loader.import_instance(manifest, _KEY, manifest.priority, Priority)
    if found._assign_handler is None:
        raise ConfigError(f"{at} has no function: decorate one with @assign")
    return found._assign_handler
