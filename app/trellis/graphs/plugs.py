"""All that the operator plugs in by path and that is open as long as the process lives: a store, a checkpointer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trellis.errors import ConfigError
from trellis.graphs import own_checkpointer, own_store
from trellis.graphs.manifest import Manifest
from trellis.graphs.plugged import Opened

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.store.base import BaseStore


@dataclass(eq=False, slots=True)
class Plugs:
    """What is open. None: langgraph.json names none."""

    store: Opened[BaseStore] | None = None
    checkpointer: Opened[BaseCheckpointSaver[Any]] | None = None

    async def close(self) -> None:
        """Close them, the last one first. On their loop."""
        for each in (self.checkpointer, self.store):
            if each is not None:
                await each.close()


async def open_(manifest: Manifest) -> Plugs:
    """
    Open them on the loop that is to use them.

    :raises ConfigError: one cannot be imported or opened.
    """
    plugs = Plugs()
    try:
        plugs.store = await own_store.open_(manifest)
        plugs.checkpointer = await own_checkpointer.open_(manifest)
    except ConfigError:
        await plugs.close()
        raise
    return plugs
