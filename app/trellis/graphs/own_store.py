"""Opens the store that `store.path` of langgraph.json names, for as long as the process lives.

The variable may be a store, a function (sync or async) that returns one, or either of them as a context manager.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trellis.errors import ConfigError, GraphLoadError
from trellis.graphs import loader
from trellis.graphs.entering import enter, is_generator
from trellis.graphs.manifest import GraphSpec, Manifest
from trellis.telemetry import STORE_FAILED, log

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore

#: What the target is called in messages.
_KEY = "store.path"
#: How long it may take until it is open, in seconds.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """A store of the operator's own. The task that opened it closes it, which some context managers insist on."""

    store: BaseStore
    _leave: asyncio.Event
    _task: asyncio.Task[None]

    async def close(self) -> None:
        """Leave its context manager. On its loop."""
        self._leave.set()
        await asyncio.wait({self._task})
        if error := self._task.exception():
            log().warning(STORE_FAILED, error=f"it did not close: {type(error).__name__}: {error}")


def load(manifest: Manifest) -> Any:
    """
    What `store.path` names, not yet called or entered. Imports langgraph and the user's code.

    :raises ConfigError: it cannot be imported, or makes no store.
    """
    from langgraph.store.base import BaseStore

    assert manifest.store.path is not None
    try:
        found = loader.import_target(manifest, GraphSpec(graph_id=_KEY, target=manifest.store.path))
    except GraphLoadError as error:
        raise ConfigError(f"{_at(manifest)}: {error.reason}") from error
    value = found.value
    if is_generator(value):
        raise ConfigError(
            f"{_at(manifest)}: it is a generator; decorate it with @contextlib.asynccontextmanager"
        )
    if not (isinstance(value, BaseStore) or _is_factory(value) or _is_context_manager(value)):
        raise ConfigError(
            f"{_at(manifest)}: it is of type {type(value).__name__}, neither a BaseStore nor a function"
        )
    return value


async def open_(manifest: Manifest) -> Opened | None:
    """
    Open the store on the loop that is to use it. None: langgraph.json names none.

    :raises ConfigError: it cannot be imported or opened, or is no store.
    """
    if manifest.store.path is None:
        return None
    # In a thread: a module may call asyncio.run() while it is imported.
    value = await asyncio.to_thread(load, manifest)
    entered: asyncio.Future[BaseStore] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()
    task = asyncio.create_task(_live(manifest, value, entered, leave))
    either: set[asyncio.Future[Any]] = {task, entered}
    await asyncio.wait(either, timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not entered.done():
        raise _failure(manifest, task)
    return Opened(entered.result(), leave, task)


async def _live(
    manifest: Manifest, value: Any, entered: asyncio.Future[BaseStore], leave: asyncio.Event
) -> None:
    from langgraph.store.base import BaseStore

    async with AsyncExitStack() as stack:
        # On the loop, not in a thread: stores that are async ask for it when they are made.
        store = await enter(value() if _is_factory(value) else value, stack)
        if not isinstance(store, BaseStore):
            raise TypeError(f"it gave {type(store).__name__}, which is no BaseStore")
        entered.set_result(store)
        await leave.wait()


def _failure(manifest: Manifest, task: asyncio.Task[None]) -> ConfigError:
    """Why it is not open; if it still tries, it need not any more."""
    if not task.done():
        task.cancel()
        return ConfigError(f"{_at(manifest)}: it did not open within {_PATIENCE_SECONDS:.0f} s")
    error = task.exception()
    assert error is not None
    return ConfigError(f"{_at(manifest)}: {loader.explain(manifest, error)}")


def _is_factory(value: Any) -> bool:
    # What contextlib's decorators make can be called as well, to decorate a function.
    return inspect.isclass(value) or (callable(value) and not _is_context_manager(value))


def _is_context_manager(value: Any) -> bool:
    return hasattr(value, "__aenter__") or hasattr(value, "__enter__")


def _at(manifest: Manifest) -> str:
    return f'{manifest.path}: "{_KEY}"'
