"""graph_id → graph, loaded on first use. A factory is called for each use, and left after it."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import threading
import typing
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from trellis.errors import GraphLoadError, NotFound
from trellis.graphs import loader, trusted
from trellis.graphs.entering import enter, in_thread, is_generator
from trellis.graphs.manifest import GraphSpec, Manifest

# Imported where needed, not here: the web process starts without langgraph.
if TYPE_CHECKING:
    from langgraph.pregel import Pregel
    from langgraph.store.base import BaseStore
    from langgraph_sdk.auth.types import BaseUser
    from langgraph_sdk.runtime import AccessContext, ServerRuntime

    Graph: TypeAlias = Pregel[Any, Any, Any, Any]

#: The name langgraph gives a graph that was given none; such a graph is called by its id.
_UNNAMED = "LangGraph"
_NEITHER = "neither a graph nor a function that returns one"


class Kind(StrEnum):
    COMPILED = "compiled graph"  #: used as it is
    BUILDER = "state graph"  #: compiled here, once
    ENTRYPOINT = "entrypoint"  #: the functional API
    FACTORY = "factory"  #: called in a thread for each use
    ASYNC_FACTORY = "async factory"  #: awaited for each use
    CONTEXT_MANAGER = "context manager"  #: entered before and left after each use


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A graph, or the way to get one, and where it stands."""

    kind: Kind
    graph: Graph | Factory
    file: Path
    line: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Factory:
    """A user's function that makes a graph, and what it wants to be told."""

    function: Callable[..., Any]
    parameters: Sequence[Wanted]
    blocking: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A parameter of a factory."""

    name: str
    what: str  #: "config" or "runtime"
    positional: bool
    context_type: type | None  #: X of `ServerRuntime[X]`


@dataclass(kw_only=True, slots=True)
class _Entry:
    """What is known of one graph; the lock is held while it loads."""

    spec: GraphSpec
    lock: threading.Lock
    loaded: Loaded | None = None
    error: GraphLoadError | None = None


class Registry:
    """The graphs of one langgraph.json. Safe to use from many threads and event loops."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._entries = {
            graph_id: _Entry(spec=spec, lock=threading.Lock())
            for graph_id, spec in manifest.graphs.items()
        }

    @cached_property
    def trusted(self) -> frozenset[type]:
        """
        Classes that checkpoints may hold, whatever the graphs' schemas say. Blocks while the user's modules load.

        :raises ConfigError: one could not be imported.
        """
        return trusted.load(self.manifest)

    @property
    def graph_ids(self) -> list[str]:
        return list(self._entries)

    def load(self, graph_id: str) -> Loaded:
        """
        Import a graph, once. Blocks while the user's modules load.

        :raises NotFound: no such graph is declared.
        :raises GraphLoadError: it could not be imported, now or the first time.
        """
        entry = self._entry(graph_id)
        with entry.lock:
            if entry.loaded is None and entry.error is None:
                try:
                    entry.loaded = _load(self.manifest, entry.spec)
                except GraphLoadError as error:
                    entry.error = error
        return _outcome(entry)

    def load_all(self) -> list[GraphLoadError]:
        """Import every graph. Never raises: tells what failed."""
        errors = []
        for graph_id in self._entries:
            try:
                self.load(graph_id)
            except GraphLoadError as error:
                errors.append(error)
        return errors

    @asynccontextmanager
    async def open(
        self,
        graph_id: str,
        *,
        access_context: AccessContext,
        config: Mapping[str, Any] | None = None,
        context: Any = None,
        user: BaseUser | None = None,
        store: BaseStore | None = None,
    ) -> AsyncIterator[Graph]:
        """
        Lend a graph, without checkpointer or store. A factory is called, and what it opened is closed after.

        :raises NotFound: no such graph is declared.
        :raises GraphLoadError: it could not be imported, or its factory failed.
        """
        loaded = self._entry(graph_id).loaded
        if loaded is None:
            loaded = await asyncio.to_thread(self.load, graph_id)
        if not isinstance(loaded.graph, Factory):
            yield loaded.graph
            return
        told = {
            "config": _config(config),
            "runtime": _runtime(access_context, user=user, store=store, context=context),
        }
        failure: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                graph = _as_graph(graph_id, await enter(await _call(loaded.graph, told), stack))
                try:
                    yield graph
                except BaseException as error:
                    failure = error
                    raise
        # The edge to the user's factory: its reason must reach whoever asked for the graph.
        except (Exception, SystemExit) as error:
            if failure is None:
                reason = loader.explain(self.manifest, error, at=_where(self.manifest, loaded))
                raise GraphLoadError(graph_id, reason) from error
        # What went wrong during the use counts, whatever the factory swallowed or raised on leaving.
        if failure is not None:
            raise failure

    def _entry(self, graph_id: str) -> _Entry:
        try:
            return self._entries[graph_id]
        except KeyError:
            raise NotFound(
                f"Graph '{graph_id}' not found. Expected one of: {sorted(self._entries)}"
            ) from None


def _outcome(entry: _Entry) -> Loaded:
    if entry.loaded is not None:
        return entry.loaded
    assert entry.error is not None
    # A new one each time: an exception raised twice collects the tracebacks of both.
    raise GraphLoadError(entry.error.graph_id, entry.error.reason) from entry.error.__cause__


def _load(manifest: Manifest, spec: GraphSpec) -> Loaded:
    found = loader.import_target(manifest, spec)
    try:
        kind = _kind_of(found.value)
        return Loaded(
            kind=kind,
            graph=_graph_or_factory(spec.graph_id, found.value, kind),
            file=found.file,
            line=found.line,
        )
    # The edge to the user's code: compiling validates it, inspecting evaluates its annotations.
    except Exception as error:
        reason = loader.explain(manifest, error, at=_where(manifest, found))
        raise GraphLoadError(spec.graph_id, reason) from error


def _graph_or_factory(graph_id: str, value: Any, kind: Kind) -> Graph | Factory:
    if kind in (Kind.COMPILED, Kind.BUILDER, Kind.ENTRYPOINT):
        return _as_graph(graph_id, value)
    return _factory(value, blocking=kind is Kind.FACTORY)


def _where(manifest: Manifest, found: loader.Imported | Loaded) -> str:
    line = f":{found.line}" if found.line else ""
    return f"{loader.shorten(manifest, found.file)}{line}"


def _kind_of(value: Any) -> Kind:
    """
    Tell graphs and factories apart.

    :raises TypeError: it is neither.
    """
    from langgraph.graph import StateGraph
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.pregel import Pregel

    if isinstance(value, StateGraph):
        return Kind.BUILDER
    if isinstance(value, CompiledStateGraph):
        return Kind.COMPILED
    if isinstance(value, Pregel):
        return Kind.ENTRYPOINT
    return _kind_of_factory(value)


def _kind_of_factory(value: Any) -> Kind:
    if is_generator(value):
        raise TypeError("it is a generator; decorate it with @contextlib.asynccontextmanager")
    if inspect.isclass(value):
        if hasattr(value, "__aenter__") or hasattr(value, "__enter__"):
            return Kind.CONTEXT_MANAGER
        raise TypeError(f"it is the class {value.__name__}, {_NEITHER}")
    if not callable(value) or hasattr(value, "invoke"):
        raise TypeError(f"it is of type {type(value).__name__}, {_NEITHER}")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        return Kind.ASYNC_FACTORY
    return Kind.CONTEXT_MANAGER if is_generator(inspect.unwrap(value)) else Kind.FACTORY


def _as_graph(graph_id: str, value: Any) -> Graph:
    """
    Compile what is not compiled, and name what has no name.

    :raises TypeError: it is no graph.
    """
    from langgraph.graph import StateGraph
    from langgraph.pregel import Pregel

    if isinstance(value, StateGraph):
        return value.compile(name=graph_id)
    if not isinstance(value, Pregel):
        raise TypeError(f"the factory returned {type(value).__name__}, which is no graph")
    if value.name != _UNNAMED:
        return value
    # Not Pregel.copy(): it drops the mappers of pydantic states.
    named = copy.copy(value)
    named.name = graph_id
    return named


def _factory(function: Callable[..., Any], *, blocking: bool) -> Factory:
    parameters = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    hints = _hints(function)
    wanted = [_wanted(each, hints.get(each.name, each.annotation)) for each in parameters]
    required = [each for each in parameters if each.default is each.empty]
    if len(required) == 1 and not any(wanted) and _may_be_config(required[0]):
        only = required[0]
        wanted = [_want(only, "config")]
    known = [each for each in wanted if each is not None]
    unknown = [each.name for each in required if each.name not in {want.name for want in known}]
    if unknown:
        raise TypeError(
            f"the factory takes {', '.join(unknown)}; it may take config: RunnableConfig "
            "and runtime: ServerRuntime"
        )
    return Factory(function=function, parameters=known, blocking=blocking)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(function))
    except (NameError, TypeError, AttributeError):
        # Names imported under TYPE_CHECKING only: the annotations' texts must do.
        return {}


def _wanted(parameter: inspect.Parameter, annotation: Any) -> Wanted | None:
    text = str(annotation)
    if "RunnableConfig" in text:
        return _want(parameter, "config")
    if "ServerRuntime" in text or "_ExecutionRuntime" in text:
        return _want(parameter, "runtime", context_type=_context_type(annotation))
    if parameter.name in ("config", "runtime"):
        return _want(parameter, parameter.name)
    return None


def _want(parameter: inspect.Parameter, what: str, *, context_type: type | None = None) -> Wanted:
    return Wanted(
        name=parameter.name,
        what=what,
        positional=parameter.kind is parameter.POSITIONAL_ONLY,
        context_type=context_type,
    )


def _may_be_config(parameter: inspect.Parameter) -> bool:
    text = str(parameter.annotation)
    return parameter.annotation is parameter.empty or "dict" in text or "Mapping" in text


def _context_type(annotation: Any) -> type | None:
    """X of `ServerRuntime[X]`, when a dict can become one."""
    argument = next(iter(typing.get_args(annotation)), None)
    if inspect.isclass(argument) and (
        dataclasses.is_dataclass(argument) or hasattr(argument, "model_validate")
    ):
        return argument
    return None


def _config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy, so that what a factory writes into it stays with this use."""
    config = dict(config or {})
    config["configurable"] = dict(config.get("configurable") or {})
    return config


def _runtime(
    access_context: AccessContext, *, user: BaseUser | None, store: BaseStore | None, context: Any
) -> ServerRuntime[Any]:
    from langgraph_sdk.runtime import _ExecutionRuntime, _ReadRuntime

    told: dict[str, Any] = {"access_context": access_context, "user": user, "store": store}
    if access_context == "threads.create_run":
        return _ExecutionRuntime(**told, context=context)
    return _ReadRuntime(**told)


async def _call(factory: Factory, told: Mapping[str, Any]) -> Any:
    values = [(want, _value(want, told[want.what])) for want in factory.parameters]
    args = [value for want, value in values if want.positional]
    kwargs = {want.name: value for want, value in values if not want.positional}
    if factory.blocking:
        return await in_thread(lambda: factory.function(*args, **kwargs))
    return factory.function(*args, **kwargs)


def _value(want: Wanted, value: Any) -> Any:
    context = getattr(value, "context", None)
    if want.context_type is not None and isinstance(context, dict):
        return dataclasses.replace(value, context=want.context_type(**context))
    return value
