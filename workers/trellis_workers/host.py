"""The long-lived objects of a worker process, built once: loop, database thread, streams, leases, graphs."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from langgraph.store.base import BaseStore
from sqlalchemy import Engine

from trellis import loopback
from trellis.auth.access import Open
from trellis.db.checkpoints import Cache
from trellis.db.checkpoints.contents import equipped
from trellis.db.engine import new_engine, write_back
from trellis.db.store import Guard, PostgresStore, ttl_config
from trellis.db.vectors import Index
from trellis.db.writer import Writer
from trellis.dispatch.announce import Announcer, connect
from trellis.dispatch.signals import Signals
from trellis.domain.runs import Lease
from trellis.domain.store import check_tenant
from trellis.graphs import embeddings, plugs
from trellis.graphs.manifest import Manifest, load
from trellis.graphs.plugs import Plugs
from trellis.graphs.registry import Registry
from trellis.graphs.vault import build as build_vault
from trellis.loopback import OnDemand
from trellis.processes import VitalThread, run_loop
from trellis.runtime import Runtime, new_contents
from trellis.settings import Settings
from trellis.stream.presence import Presence
from trellis.stream.writer import EventWriter, Limits
from trellis.telemetry import LOOP_BLOCKED, log
from trellis_workers.lease import Keeper
from trellis_workers.maintenance.deliverer import Deliverer
from trellis_workers.maintenance.remover import Remover
from trellis_workers.threads import NodeThreads

T = TypeVar("T")

#: How long a run's store waits for a database out of reach, in seconds. A lease does not last much longer.
_PATIENCE = 10.0
#: A loop that does not answer for this long is blocked by somebody's code, and said so.
_BLOCKED_SECONDS = 1.0


@dataclass(kw_only=True)
class Host:
    """What every attempt of this process shares."""

    rt: Runtime  #: for services of the front end
    settings: Settings
    manifest: Manifest
    registry: Registry
    engine: Engine
    writer: Writer
    keeper: Keeper
    lease: Lease
    node_threads: NodeThreads
    store_threads: Executor
    index: Index | None
    loopback: OnDemand
    cache: Cache
    announcer: Announcer
    signals: Signals
    events: EventWriter
    deliverer: Deliverer
    loop: asyncio.AbstractEventLoop
    owner: str
    plugs: Plugs
    remover: Remover | None  #: None: values are in Postgres
    serdes: dict[str, Any] = field(default_factory=dict)
    draining: threading.Event = field(default_factory=threading.Event)

    def store(self, tenant_id: str, guard: Guard | None = None) -> BaseStore:
        """
        The long-term memory of a tenant, for one who may write as long as the guard lets it. Cheap.

        A store of the operator's own is outside of Postgres, where no guard reaches: it is lent as it is.

        :raises NotSupported: it is, and knows no tenants.
        """
        if self.rt.own_store is not None:
            check_tenant(tenant_id)
            return self.rt.own_store
        store = PostgresStore(
            self.engine,
            tenant_id,
            ttl=ttl_config(self.manifest.store.ttl),
            index=self.index,
            executor=self.store_threads,
        )
        return store.guarded(guard, patience_seconds=_PATIENCE) if guard else store

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the process's loop from a slot's thread."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result()


def build(settings: Settings, *, owner: str) -> Host:
    """Start the threads of the process and build what they share."""
    loopback.announce()
    loopback.connect(api := OnDemand(settings))
    manifest = load(settings.config_path)
    vault = build_vault(manifest)
    contents = new_contents(manifest)
    engine = new_engine(settings.database_url, pool_size=settings.database_pool_size, vault=vault)
    engine = equipped(engine, contents)
    writes = equipped(new_engine(settings.database_url, pool_size=1, vault=vault), contents)
    write_back(engine)
    lease = Lease()
    cache = Cache()
    redis = connect(settings.redis_url, max_connections=8)
    nodes = NodeThreads(settings.slots)
    loop = _start_loop(nodes)
    rt = Runtime(
        settings=settings,
        manifest=manifest,
        access=Open(),
        engine=engine,
        autocommit=engine.execution_options(isolation_level="AUTOCOMMIT"),
        redis=redis,
        announcer=Announcer(redis, key_prefix=settings.redis_key_prefix),
        signals=Signals(redis, key_prefix=settings.redis_key_prefix),
        presence=Presence(engine),
        loop=loop,
        contents=contents,
    )
    rt.offer_cache()
    api.plugs = _on(loop, plugs.open_(manifest))
    rt.plug_in(api.plugs)
    return Host(
        rt=rt,
        settings=settings,
        manifest=manifest,
        registry=Registry(manifest),
        engine=engine,
        # Its own connections each: a writer in trouble must not cost a lease, nor the other way round.
        writer=Writer(writes, cache=cache),
        keeper=Keeper(new_engine(settings.database_url, pool_size=1), lease),
        lease=lease,
        loopback=api,
        node_threads=nodes,
        store_threads=ThreadPoolExecutor(4, thread_name_prefix="store"),
        index=embeddings.load(manifest),
        cache=cache,
        announcer=rt.announcer,
        signals=rt.signals,
        events=_on(loop, _new_events(settings)),
        deliverer=Deliverer(engine, replace(manifest.webhooks, secrets=settings.webhook_secrets)),
        loop=loop,
        owner=owner,
        plugs=api.plugs,
        remover=Remover(engine, contents) if contents else None,
    )


async def _new_events(settings: Settings) -> EventWriter:
    limits = Limits(
        max_entries=settings.stream_max_events, retain_seconds=settings.stream_ttl_seconds
    )
    return EventWriter(settings.redis_url, prefix=settings.redis_key_prefix, limits=limits)


def _on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result()


def close(host: Host) -> None:
    """Commit and send what is queued, then let go of every connection."""
    _on(host.loop, host.loopback.close())
    _on(host.loop, host.events.close())
    if host.remover is not None:
        host.remover.close()
    _on(host.loop, host.plugs.close())
    if host.rt.cache is not None:
        host.rt.cache.close()
    host.keeper.close()
    host.deliverer.close()
    host.writer.close()
    host.engine.dispose()


def _start_loop(nodes: NodeThreads) -> asyncio.AbstractEventLoop:
    """One event loop for all async graphs; blocking nodes have threads."""
    loop = _new_loop()
    loop.set_default_executor(nodes)
    thread = VitalThread(partial(_run_loop, loop), name="loop")
    thread.start()
    watch = threading.Thread(target=_watch, args=(loop, thread), name="loop-watch", daemon=True)
    watch.start()
    return loop


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    # A node that called stop() or exit(): its run fails (executor), no other.
    run_loop(loop)


def _watch(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Log the stack that blocks the loop, once per blockage."""
    while True:
        answered = threading.Event()
        loop.call_soon_threadsafe(answered.set)
        if not answered.wait(_BLOCKED_SECONDS):
            frame = sys._current_frames().get(thread.ident or 0)
            stack = "".join(traceback.format_stack(frame)[-4:]) if frame else ""
            log().warning(LOOP_BLOCKED, seconds=_BLOCKED_SECONDS, stack=stack)
            answered.wait()
        time.sleep(_BLOCKED_SECONDS)
