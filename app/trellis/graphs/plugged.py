"""Opens what the operator plugs in by path (a store, a checkpointer), for as long as the process lives.

The variable may be the thing, a function (sync or async) that returns one, or either of them as a context manager.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from trellis.errors import ConfigError, GraphLoadError
from trellis.graphs import loader
from trellis.graphs.entering import enter, is_generator
from trellis.graphs.manifest import GraphSpec, Manifest
from trellis.telemetry import PLUGGED_FAILED, log

T = TypeVar("T")

#: How long it may take until it is open, in seconds.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Socket(Generic[T]):
    """What is plugged in where. Made once langgraph may be imported."""

    manifest: Manifest
    key: str  #: of langgraph.json, as it is called in messages
    target: str
    kind: type  #: T, which may be abstract
    #: Methods without which it is of no use. Those of `kind` only raise.
    needs: tuple[str, ...] = ()

    def at(self) -> str:
        return f'{self.manifest.path}: "{self.key}"'


@dataclass(frozen=True, eq=False, slots=True)
class Opened(Generic[T]):
    """A thing of the operator's own. The task that opened it closes it, which some context managers insist on."""

    value: T
    _key: str
    _leave: asyncio.Event
    _task: asyncio.Task[None]

    async def close(self) -> None:
        """Leave its context manager. On its loop."""
        self._leave.set()
        await asyncio.wait({self._task})
        if error := self._task.exception():
            log().warning(
                PLUGGED_FAILED,
                key=self._key,
                error=f"it did not close: {type(error).__name__}: {error}",
            )


def load(socket: Socket[Any]) -> Any:
    """
    What the path names, not yet called or entered. Imports the user's code.

    :raises ConfigError: it cannot be imported, or makes no such thing.
    """
    spec = GraphSpec(graph_id=socket.key, target=socket.target)
    try:
        found = loader.import_target(socket.manifest, spec)
    except GraphLoadError as error:
        raise ConfigError(f"{socket.at()}: {error.reason}") from error
    value, kind = found.value, socket.kind
    if is_generator(value):
        raise ConfigError(
            f"{socket.at()}: it is a generator; decorate it with @contextlib.asynccontextmanager"
        )
    if not (isinstance(value, kind) or _is_factory(value) or _is_context_manager(value)):
        raise ConfigError(
            f"{socket.at()}: it is of type {type(value).__name__}, neither a {kind.__name__} nor a function"
        )
    return value


async def open_(socket: Socket[T]) -> Opened[T]:
    """
    Open it on the loop that is to use it.

    :raises ConfigError: it cannot be imported or opened, or is no such thing.
    """
    # In a thread: a module may call asyncio.run() while it is imported.
    value = await asyncio.to_thread(load, socket)
    entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()
    task = asyncio.create_task(_live(socket, value, entered, leave))
    either: set[asyncio.Future[Any]] = {task, entered}
    await asyncio.wait(either, timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not entered.done():
        raise _failure(socket, task)
    return Opened(entered.result(), socket.key, leave, task)


async def _live(
    socket: Socket[T], value: Any, entered: asyncio.Future[T], leave: asyncio.Event
) -> None:
    async with AsyncExitStack() as stack:
        # On the loop, not in a thread: stores that are async ask for it when they are made.
        thing = await enter(value() if _is_factory(value) else value, stack)
        entered.set_result(_checked(socket, thing))
        await leave.wait()


def _checked(socket: Socket[T], thing: Any) -> T:
    kind = socket.kind
    if not isinstance(thing, kind):
        raise TypeError(f"it gave {type(thing).__name__}, which is no {kind.__name__}")
    if missing := [name for name in socket.needs if not _has(thing, name, kind=kind)]:
        raise TypeError(f"{type(thing).__name__} lacks {', '.join(missing)}")
    return cast("T", thing)


def _has(thing: object, method: str, *, kind: type) -> bool:
    """Whether a thing has a method of its own, not the one of its kind, which only raises."""
    return getattr(type(thing), method) is not getattr(kind, method)


def _failure(socket: Socket[Any], task: asyncio.Task[None]) -> ConfigError:
    """Why it is not open; if it still tries, it need not any more."""
    if not task.done():
        task.cancel()
        return ConfigError(f"{socket.at()}: it did not open within {_PATIENCE_SECONDS:.0f} s")
    error = task.exception()
    assert error is not None
    return ConfigError(f"{socket.at()}: {loader.explain(socket.manifest, error)}")


def _is_factory(value: Any) -> bool:
    # What contextlib's decorators make can be called as well, to decorate a function.
    return inspect.isclass(value) or (callable(value) and not _is_context_manager(value))


def _is_context_manager(value: Any) -> bool:
    return hasattr(value, "__aenter__") or hasattr(value, "__enter__")
