"""Composition root of the web process: its long-lived objects, built once and handed to every service as `rt`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from sqlalchemy import Engine

from trellis.auth.access import Access
from trellis.auth.build import build as build_access
from trellis.db import runs
from trellis.db.checkpoints.contents import Contents, equipped
from trellis.db.engine import new_engine, write_back
from trellis.db.queries import Preparing
from trellis.db.vault import Vault, vault_of
from trellis.dispatch.announce import Announcer, connect
from trellis.dispatch.signals import Signals
from trellis.domain.access import DEFAULT_TENANT
from trellis.domain.runs import RunState
from trellis.errors import Unavailable
from trellis.graphs import priorities, vault
from trellis.graphs.manifest import Manifest, load
from trellis.graphs.plugs import Plugs
from trellis.graphs.priorities import Hook
from trellis.settings import Settings
from trellis.stream.presence import Presence
from trellis.stream.states import States

T = TypeVar("T")

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore

    from trellis.db.vectors import Index
    from trellis.graphs.cache import Cache
    from trellis.graphs.registry import Registry
    from trellis.stream.reader import Reader


#: Statements of most requests. Others may be better planned for their parameters, as searches are.
_HOT = {
    ("runs", "subject"),
    ("runs", "assistant"),
    ("runs", "enqueue"),
    ("runs", "enqueue_with_thread"),
    ("runs", "state"),
    ("runs", "active"),
    ("threads", "insert"),
}

#: How long a view waits for user code on the loop, in seconds. There are so many threads for views, and no more.
_PATIENCE_SECONDS = 60.0


@dataclass(kw_only=True)
class Runtime:
    """The long-lived objects of a process. `reader` and `loop` are set when the event loop starts."""

    settings: Settings
    manifest: Manifest
    access: Access
    engine: Engine  #: for transactions of several statements
    autocommit: Engine  #: the same connections, where each statement is a transaction of its own
    redis: redis.Redis
    announcer: Announcer
    signals: Signals
    presence: Presence
    reader: Reader | None = None
    loop: asyncio.AbstractEventLoop | None = None
    cache: Cache | None = None  #: behind `langgraph_sdk.cache`
    own_store: BaseStore | None = None  #: what `store.path` names, opened on the loop
    contents: Contents | None = None  #: behind what `checkpointer.path` names
    #: Those that have their default assistants: the first one gets them when the process starts.
    tenants: set[str] = field(default_factory=lambda: {DEFAULT_TENANT})
    #: Called before the first graph is imported here: it may hold clients of this very process.
    before_user_code: Callable[[], None] = lambda: None
    #: What streams ask of their runs.
    states: States = field(init=False)
    #: Requests that may wait in a thread for what others have still to do.
    waiting: threading.BoundedSemaphore = field(init=False)
    _registry: Registry | None = None
    _index: Index | None = None
    #: Around what is made at its first use, which several requests may be.
    _making: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        # The rest of the threads is for requests that need not wait.
        self.waiting = threading.BoundedSemaphore(self.settings.web_threads // 4)
        self.states = States(self._active)

    def _active(self, run_ids: Sequence[str]) -> Mapping[str, RunState]:
        with self.autocommit.connect() as tx:
            return runs.active(tx, run_ids)

    @property
    def registry(self) -> Registry:
        """The user's graphs. Importing langgraph takes seconds, so it is put off until a request needs it."""
        if self._registry is None:
            with self._making:
                self._registry = self._registry or self._new_registry()
        return self._registry

    def _new_registry(self) -> Registry:
        from trellis.graphs.registry import Registry

        self.before_user_code()
        return Registry(self.manifest)

    def on_loop(
        self,
        work: Coroutine[Any, Any, T],
        *,
        told: str = "The code of this server took too long. Try again.",
    ) -> T:
        """
        Run a coroutine on the process's loop, and wait for it, but not for ever. From a view's thread.

        :raises Unavailable: there is no loop yet, or it took too long, as the client is `told`; it is cancelled then.
        """
        if self.loop is None:
            work.close()
            raise Unavailable("The server is starting. Try again.")
        future = asyncio.run_coroutine_threadsafe(_staying(work), self.loop)
        try:
            return future.result(_PATIENCE_SECONDS)
        except TimeoutError:
            if not future.cancel():
                raise  # the work's own
            raise Unavailable(told) from None

    def plug_in(self, plugs: Plugs) -> None:
        """Use what the operator has plugged in, which was opened on the process's loop."""
        assert self.loop is not None
        self.own_store = plugs.store.value if plugs.store else None
        if self.contents is not None and plugs.checkpointer is not None:
            self.contents.open(plugs.checkpointer.value, self.loop)

    def offer_cache(self) -> None:
        """Have `langgraph_sdk.cache` work in this process, before user code asks for it."""
        if self.cache is None:
            from trellis.graphs import cache

            self.cache = cache.install(self.settings)

    @cached_property
    def priority(self) -> Hook | None:
        """
        The operator's hook that decides the priority of threads, if there is one. Imports the user's code.

        :raises ConfigError: it cannot be loaded.
        """
        if self.manifest.priority is not None:
            self.before_user_code()
        return priorities.load(self.manifest)

    @property
    def vault(self) -> Vault:
        """What encrypts the process's rows."""
        return vault_of(self.engine)

    @property
    def index(self) -> Index | None:
        """
        The store's semantic index, if langgraph.json wants one. The first use imports the user's code: in a thread.

        :raises ConfigError: what makes its vectors cannot be loaded.
        """
        if self.manifest.store.index is None:
            return None
        with self._making:
            if self._index is None:
                from trellis.graphs import embeddings

                self._index = embeddings.load(self.manifest)
        return self._index

    def close(self) -> None:
        """Give connections back."""
        if self.cache is not None:
            self.cache.close()
        self.presence.close()
        self.engine.dispose()
        self.redis.close()


def new_contents(manifest: Manifest) -> Contents | None:
    """What stands for the operator's own checkpointer until it is open. None: there is none."""
    return None if manifest.checkpointer.path is None else Contents()


def build(settings: Settings, *, access: Access | None = None) -> Runtime:
    """
    Build the runtime; with the access that the settings ask for, unless one is given. Connects to nothing: a database that is down must not keep the process from starting.

    :raises ConfigError: langgraph.json is missing or wrong.
    """
    client = connect(settings.redis_url, max_connections=settings.web_threads + 8)
    manifest = load(settings.config_path)
    contents = new_contents(manifest)
    connections = new_engine(
        settings.database_url,
        pool_size=settings.database_pool_size,
        autocommit=True,
        vault=vault.build(manifest),
    )
    connections = equipped(connections, contents)
    engine = connections.execution_options(isolation_level="READ COMMITTED")
    write_back(engine)
    return Runtime(
        settings=settings,
        manifest=manifest,
        access=build_access(settings, manifest) if access is None else access,
        engine=engine,
        autocommit=Preparing(connections, only=_HOT, alone=True).engine,
        redis=client,
        announcer=Announcer(client, key_prefix=settings.redis_key_prefix),
        signals=Signals(client, key_prefix=settings.redis_key_prefix),
        presence=Presence(engine),
        contents=contents,
    )


async def _staying(work: Coroutine[Any, Any, T]) -> T:
    """The work, whose `sys.exit()` would end the loop, and the process with it."""
    try:
        return await work
    except SystemExit as error:
        raise RuntimeError(f"The code of this server called sys.exit({error.code!r})") from error
