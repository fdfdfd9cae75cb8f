"""Loads what `store.index.embed` names: the user's function or object, or a model of a provider.

It is called in the thread of a request or of the store, never on the loop of a process; an async function gets an
event loop of its own, because its clients belong to the loop that first used them.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from trellis.domain.store import StoreIndex
from trellis.errors import ConfigError, GraphLoadError
from trellis.graphs import loader
from trellis.graphs.manifest import GraphSpec, Manifest
from trellis.processes import run_loop

if TYPE_CHECKING:
    from trellis.db.vectors import Embeddings, Index

#: What the target is called in messages.
_KEY = "store.index.embed"
#: How long an async function may take, in seconds.
_PATIENCE_SECONDS = 60.0


def load(manifest: Manifest) -> Index | None:
    """
    The store's semantic index; None if langgraph.json wants none. Imports langgraph and the user's code.

    :raises ConfigError: what makes its vectors cannot be loaded.
    """
    from trellis.db.vectors import Index

    wanted = manifest.store.index
    if wanted is None:
        return None
    return Index(embeddings=_embeddings(manifest, wanted), dims=wanted.dims, fields=wanted.fields)


def _embeddings(manifest: Manifest, wanted: StoreIndex) -> Embeddings:
    spec = GraphSpec(graph_id=_KEY, target=wanted.embed)
    try:
        if not _is_users(manifest, spec):
            return _provided(wanted.embed)
        return _adapted(loader.import_target(manifest, spec).value)
    except GraphLoadError as error:
        raise ConfigError(f'{manifest.path}: "{_KEY}": {error.reason}') from error
    # The edge to a provider's package, which may raise anything.
    except Exception as error:
        raise ConfigError(f'{manifest.path}: "{_KEY}": {type(error).__name__}: {error}') from error


def _is_users(manifest: Manifest, spec: GraphSpec) -> bool:
    """Whether it is code and not `provider:model`: a file, a dotted name, or a module of the project."""
    if spec.is_file or "." in spec.source:
        return True
    return loader.module_file(manifest, spec.source) is not None


def _provided(name: str) -> Embeddings:
    from langgraph.store.base.embed import ensure_embeddings

    return ensure_embeddings(name)


def _adapted(value: Any) -> Embeddings:
    """
    The user's object or function as embeddings.

    :raises TypeError: it is neither.
    """
    if inspect.isclass(value):
        raise TypeError(f"{value.__name__} is a class; name an object or a function")
    if hasattr(value, "embed_documents") and hasattr(value, "embed_query"):
        adapted: Embeddings = value
        return adapted
    if not callable(value):
        raise TypeError(f"it is of type {type(value).__name__}, neither embeddings nor a function")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        return _Function(_on_a_loop(value))
    return _Function(value)


class _Function:
    """A function from texts to vectors as embeddings."""

    def __init__(self, function: Callable[[list[str]], Sequence[Any]]) -> None:
        self._function = function

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return list(self._function(texts))

    def embed_query(self, text: str) -> list[float]:
        vector: list[float] = self._function([text])[0]
        return vector


def _on_a_loop(function: Callable[[list[str]], Awaitable[Any]]) -> Callable[[list[str]], Any]:
    """An async function as a blocking one: it runs on a loop of its own in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=run_loop, args=(loop,), name="embed", daemon=True).start()

    async def awaited(texts: list[str]) -> Any:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await function(texts)
        except SystemExit as error:
            raise RuntimeError("it called sys.exit()") from error  # which would end the loop

    return lambda texts: asyncio.run_coroutine_threadsafe(awaited(texts), loop).result()
