"""What `langgraph_sdk.cache` keeps in Redis for nodes, handlers and routes: small values, for a day at most.

An entry is JSON: how long it lives, how long Redis keeps it (both in milliseconds), and the value. How old it is follows
from what Redis has left of its time, so that no two clocks are compared. A Redis out of reach is a cache without entries.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import redis
from langgraph_sdk import cache as sdk
from langgraph_sdk.cache import CacheStatus, SWRResult

from trellis.dispatch.announce import connect
from trellis.domain.access import caller
from trellis.settings import Settings
from trellis.telemetry import CACHE_FAILED, log

T = TypeVar("T")

_LONGEST = timedelta(days=1)
_MAX_KEY_BYTES = 1024
#: Redis holds the hints and the streams as well: what is larger belongs into the store.
_MAX_VALUE_BYTES = 1 << 20
#: Threads that ask Redis, with a connection each. User code may run on loops of its own, which share no connection.
_THREADS = 4
#: After a failure, how long Redis is not asked: nodes must not wait for it again and again.
_BREAK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Entry:
    value: Any
    life_ms: int
    age_ms: int


def install(settings: Settings) -> Cache:
    """Have `langgraph_sdk.cache` work in this process. Close it at the end."""
    cache = Cache(settings.redis_url, key_prefix=settings.redis_key_prefix)
    # The SDK would import them from the official server, which has no other hook.
    vars(sdk).update(_cache_get=cache.get, _cache_set=cache.set, _api_swr=cache.swr)
    return cache


class Cache:
    """The entries of whichever tenant the calling code works for."""

    def __init__(self, url: str, *, key_prefix: str = "") -> None:
        self._client = connect(url, max_connections=_THREADS)
        self._prefix = key_prefix
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cache")
        self._refreshing: dict[bytes, asyncio.Task[Any]] = {}
        self._closed_until = 0.0

    async def get(self, key: str) -> Any | None:
        """The value; None: there is none, or no longer."""
        entry = await self._read(self._place(key))
        return entry.value if entry and entry.age_ms < entry.life_ms else None

    async def set(self, key: str, value: Any, ttl: timedelta | None = None) -> None:
        """
        Keep a value: for a day, if it is not said or more.

        :raises TypeError: JSON cannot say it.
        :raises ValueError: the key or the value is too large, or the time negative.
        """
        life = _milliseconds(ttl or _LONGEST, "ttl")
        await self._write(self._place(key), value, life_ms=life, kept_ms=life)

    async def swr(
        self,
        key: str,
        loader: Callable[[], Awaitable[T]],
        *,
        fresh_for: timedelta = timedelta(0),
        max_age: timedelta = _LONGEST,
        model: type[T] | None = None,
    ) -> SWRResult[T]:
        """
        What `loader` gives, from the cache while it is younger than `max_age`, and loaded again behind it unless fresh.

        :raises TypeError: JSON cannot say what was loaded.
        :raises ValueError: the key or the value is too large, or a time negative.
        """
        fresh_ms = _milliseconds(fresh_for, "fresh_for")
        life_ms = _milliseconds(max_age, "max_age")
        place = self._place(key)

        async def keep(value: T) -> T:
            # Longer than it counts, so that one that is too old can be told from none.
            kept_ms = min(2 * life_ms, _milliseconds(_LONGEST, "max_age"))
            await self._write(place, _dumped(value, model), life_ms=life_ms, kept_ms=kept_ms)
            return value

        async def load() -> T:
            return await keep(await loader())

        entry = _modelled(await self._read(place), model)
        if entry is None or entry.age_ms >= life_ms:
            return _Result(await load(), "miss" if entry is None else "expired", load, keep)
        is_fresh = entry.age_ms < fresh_ms
        if not is_fresh:
            self._refresh(place, load)
        return _Result(cast("T", entry.value), "fresh" if is_fresh else "stale", load, keep)

    def close(self) -> None:
        """Give connections back."""
        self._threads.shutdown()
        self._client.close()

    def _place(self, key: str) -> bytes:
        place = key.encode("utf-8", "surrogatepass")
        if len(place) > _MAX_KEY_BYTES:
            raise ValueError(f"a cache's key has at most {_MAX_KEY_BYTES} bytes")
        return f"{self._prefix}cache:{caller.get().tenant_id}:".encode() + place

    def _refresh(self, place: bytes, load: Callable[[], Awaitable[Any]]) -> None:
        """Load behind the caller's back, once at a time."""
        if place in self._refreshing:
            return

        async def refresh() -> None:
            try:
                await load()
            # The edge to the loader: the old value was good enough for whoever asked.
            except (Exception, SystemExit) as error:
                log().warning(CACHE_FAILED, error=f"a refresh: {type(error).__name__}: {error}")

        task = self._refreshing[place] = asyncio.ensure_future(refresh())
        task.add_done_callback(lambda _: self._refreshing.pop(place))

    async def _read(self, place: bytes) -> _Entry | None:
        found = await self._ask(lambda pipe: pipe.get(place).pttl(place))
        if not found or found[0] is None:
            return None
        data, left_ms = found
        life_ms, kept_ms, value = json.loads(data)
        return _Entry(value, life_ms, kept_ms - left_ms)

    async def _write(self, place: bytes, value: Any, *, life_ms: int, kept_ms: int) -> None:
        data = json.dumps([life_ms, kept_ms, value])
        if len(data) > _MAX_VALUE_BYTES:
            raise ValueError(f"a cache's value has at most {_MAX_VALUE_BYTES} bytes as JSON")
        if kept_ms:
            await self._ask(lambda pipe: pipe.set(place, data, px=kept_ms))

    async def _ask(self, commands: Callable[[Any], Any]) -> list[Any] | None:
        """What Redis answers. None: it is out of reach."""
        if time.monotonic() < self._closed_until:
            return None
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._execute, commands)
        except redis.RedisError as error:
            self._closed_until = time.monotonic() + _BREAK_SECONDS
            log().warning(CACHE_FAILED, error=str(error))
            return None

    def _execute(self, commands: Callable[[Any], Any]) -> list[Any]:
        with self._client.pipeline() as pipe:
            commands(pipe)
            return pipe.execute()


class _Result(SWRResult[T]):  # type: ignore[misc]  # as long as the official server is not installed it is Any
    """A value, where it came from, and a way to change it for everybody."""

    def __init__(
        self,
        value: T,
        status: CacheStatus,
        load: Callable[[], Awaitable[T]],
        keep: Callable[[T], Awaitable[T]],
    ) -> None:
        self.value = value
        self.status = status
        self._load = load
        self._keep = keep

    async def mutate(self, value: Any = ...) -> T:
        """Keep this value, or without one what is loaded now."""
        self.value = await (self._load() if value is ... else self._keep(value))
        self.status = "fresh"
        return self.value


def _milliseconds(given: timedelta, name: str) -> int:
    if given < timedelta(0):
        raise ValueError(f"{name} must not be negative")
    return min(given, _LONGEST) // timedelta(milliseconds=1)


def _dumped(value: Any, model: type | None) -> Any:
    return value.model_dump(mode="json") if model and hasattr(value, "model_dump") else value


def _modelled(entry: _Entry | None, model: Any) -> _Entry | None:
    """The entry with its value as the model has it. None as well: the model has changed since, and refuses it."""
    if entry is None or model is None:
        return entry
    try:
        return _Entry(model.model_validate(entry.value), entry.life_ms, entry.age_ms)
    # pydantic's ValidationError is one; what a validator of the user's raises becomes one.
    except ValueError:
        return None
