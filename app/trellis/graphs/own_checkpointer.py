"""Opens the checkpointer that `checkpointer.path` of langgraph.json names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trellis.graphs import plugged
from trellis.graphs.manifest import Manifest
from trellis.graphs.plugged import Opened, Socket

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

#: What is called of it.
_NEEDS = ("aput", "aput_writes", "aget_tuple", "adelete_thread")


def load(manifest: Manifest) -> Any:
    """
    What `checkpointer.path` names, not yet called or entered; None: langgraph.json names none.

    :raises ConfigError: it cannot be imported, or makes no checkpointer.
    """
    socket = _socket(manifest)
    return socket and plugged.load(socket)


async def open_(manifest: Manifest) -> Opened[BaseCheckpointSaver[Any]] | None:
    """
    Open the checkpointer on the loop that is to use it. None: langgraph.json names none.

    :raises ConfigError: it cannot be imported or opened, is no checkpointer, or lacks a method.
    """
    socket = _socket(manifest)
    return None if socket is None else await plugged.open_(socket)


def _socket(manifest: Manifest) -> Socket[BaseCheckpointSaver[Any]] | None:
    if manifest.checkpointer.path is None:
        return None
    from langgraph.checkpoint.base import BaseCheckpointSaver

    return Socket(
        manifest=manifest,
        key="checkpointer.path",
        target=manifest.checkpointer.path,
        kind=BaseCheckpointSaver,
        needs=_NEEDS,
    )
