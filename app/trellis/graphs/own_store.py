"""Opens the store that `store.path` of langgraph.json names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trellis.graphs import plugged
from trellis.graphs.manifest import Manifest
from trellis.graphs.plugged import Opened, Socket

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore


def load(manifest: Manifest) -> Any:
    """
    What `store.path` names, not yet called or entered; None: langgraph.json names none.

    :raises ConfigError: it cannot be imported, or makes no store.
    """
    socket = _socket(manifest)
    return socket and plugged.load(socket)


async def open_(manifest: Manifest) -> Opened[BaseStore] | None:
    """
    Open the store on the loop that is to use it. None: langgraph.json names none.

    :raises ConfigError: it cannot be imported or opened, or is no store.
    """
    socket = _socket(manifest)
    return None if socket is None else await plugged.open_(socket)


def _socket(manifest: Manifest) -> Socket[BaseStore] | None:
    if manifest.store.path is None:
        return None
    from langgraph.store.base import BaseStore

    return Socket(manifest=manifest, key="store.path", target=manifest.store.path, kind=BaseStore)
