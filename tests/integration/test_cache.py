"""`langgraph_sdk.cache` on a real Redis, through the SDK's own functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from langgraph_sdk import cache as sdk
from pydantic import BaseModel

from trellis.dev.process import any_port, poll_until
from trellis.domain.access import Principal, caller
from trellis.graphs import cache as caches
from trellis.settings import Settings

SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def cache(redis_url: str) -> Iterator[caches.Cache]:
    settings = Settings(database_url="postgresql://nowhere/none", redis_url=redis_url)
    before = {name: vars(sdk)[name] for name in ("_cache_get", "_cache_set", "_api_swr")}
    cache = caches.install(settings)
    yield cache
    cache.close()
    vars(sdk).update(before)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def age(client: redis.Redis) -> Callable[[str, timedelta], None]:
    """Let an entry be so old."""

    def age(key: str, by: timedelta) -> None:
        place = f"cache:default:{key}"
        assert client.pexpire(place, client.pttl(place) - int(by.total_seconds() * 1000))

    return age


class Source:
    """Something to load from, which gives another number each time."""

    def __init__(self) -> None:
        self.loaded = 0
        self.failure: BaseException | None = None

    async def load(self) -> Any:
        if self.failure:
            raise self.failure
        self.loaded += 1
        return self.loaded


VALUES = [None, True, 0, 2**70, 1.5, "a \x00 \ud800 é", [1, {"a": []}], {"k": None}]


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_set_and_get(value: Any) -> None:
    async def use() -> Any:
        await sdk.cache_set("key \x00 \ud800", value)
        return await sdk.cache_get("key \x00 \ud800")

    assert asyncio.run(use()) == value


def test_get__nothing() -> None:
    assert asyncio.run(sdk.cache_get("nothing")) is None


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (None, 86_400),
        (timedelta(0), 86_400),
        (timedelta(days=3), 86_400),
        (timedelta(seconds=90), 90),
    ],
    ids=str,
)
def test_set__lives_a_day_at_most(client: redis.Redis, ttl: timedelta | None, seconds: int) -> None:
    asyncio.run(sdk.cache_set("k", 1, ttl=ttl))

    assert seconds - 60 < client.pttl("cache:default:k") / 1000 <= seconds


@pytest.mark.parametrize(
    ("key", "value", "ttl", "error"),
    [
        ("k" * 1025, 1, None, ValueError),
        ("k", "v" * (1 << 20), None, ValueError),
        ("k", {1, 2}, None, TypeError),
        ("k", 1, timedelta(seconds=-1), ValueError),
    ],
    ids=["key", "value", "no json", "negative"],
)
def test_set__what_cannot_be_kept(
    client: redis.Redis, key: str, value: Any, ttl: timedelta | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        asyncio.run(sdk.cache_set(key, value, ttl=ttl))

    assert client.keys() == []


def test_tenants__have_entries_of_their_own() -> None:
    async def use() -> Any:
        await sdk.cache_set("k", "default's")
        caller.set(Principal(tenant_id="acme"))
        seen = await sdk.cache_get("k")
        await sdk.cache_set("k", "acme's")
        caller.set(Principal())
        return seen, await sdk.cache_get("k")

    assert asyncio.run(use()) == (None, "default's")


def test_swr(age: Callable[[str, timedelta], None]) -> None:
    source = Source()

    async def ask() -> tuple[Any, str]:
        found = await sdk.swr("k", source.load, fresh_for=60 * SECOND, max_age=600 * SECOND)
        return found.value, found.status

    async def use() -> None:
        assert await ask() == (1, "miss")
        assert await ask() == (1, "fresh")
        age("k", 120 * SECOND)
        assert await ask() == (1, "stale")
        await until(lambda: source.loaded == 2)
        await until_async(ask, (2, "fresh"))
        age("k", 700 * SECOND)
        assert await sdk.cache_get("k") is None
        assert await ask() == (3, "expired")
        assert await sdk.cache_get("k") == 3

    asyncio.run(use())


async def until(condition: Callable[[], bool]) -> None:
    assert await asyncio.to_thread(poll_until, condition, seconds=20)


async def until_async(ask: Callable[[], Any], wanted: Any) -> None:
    async with asyncio.timeout(20):
        while await ask() != wanted:
            await asyncio.sleep(0)


def test_swr__is_never_fresh_unless_asked_for() -> None:
    source = Source()

    async def use() -> list[str]:
        first = await sdk.swr("k", source.load)
        second = await sdk.swr("k", source.load)
        await until(lambda: source.loaded == 2)
        return [first.status, second.status]

    assert asyncio.run(use()) == ["miss", "stale"]


def test_swr__one_refresh_at_a_time() -> None:
    gate = asyncio.Event()
    started = []

    async def load() -> int:
        started.append(1)
        await gate.wait()
        return 2

    async def use() -> None:
        await sdk.cache_set("k", 1)
        found = [await sdk.swr("k", load) for _ in range(5)]
        assert [each.value for each in found] == [1] * 5
        gate.set()
        await until_value("k", 2)

    asyncio.run(use())
    assert started == [1]


async def until_value(key: str, value: Any) -> None:
    await until_async(lambda: sdk.cache_get(key), value)


@pytest.mark.parametrize("failure", [ConnectionError("no source"), SystemExit(1)], ids=repr)
def test_swr__refresh_that_fails(cache: caches.Cache, failure: BaseException) -> None:
    source = Source()

    async def use() -> Any:
        await sdk.cache_set("k", "old")
        source.failure = failure
        found = await sdk.swr("k", source.load)
        await until(lambda: not cache._refreshing)
        return found.value, await sdk.cache_get("k")

    assert asyncio.run(use()) == ("old", "old")


def test_swr__loader_that_fails() -> None:
    source = Source()
    source.failure = ConnectionError("no source")

    with pytest.raises(ConnectionError, match="no source"):
        asyncio.run(sdk.swr("k", source.load))


def test_swr__mutate() -> None:
    source = Source()

    async def use() -> None:
        found = await sdk.swr("k", source.load)
        assert isinstance(found, sdk.SWRResult)
        assert (await found.mutate("mine"), found.value) == ("mine", "mine")
        assert await sdk.cache_get("k") == "mine"
        assert (await found.mutate(), found.value, found.status) == (2, 2, "fresh")
        assert await found.mutate(None) is None
        assert (await sdk.cache_get("k"), source.loaded) == (None, 2)

    asyncio.run(use())


class User(BaseModel):
    name: str


class OtherUser(BaseModel):
    number: int


def test_swr__model() -> None:
    async def load() -> Any:
        return User(name="Ada")

    async def load_other() -> Any:
        return OtherUser(number=1)

    async def use() -> list[Any]:
        hour = timedelta(hours=1)
        found = [await sdk.swr("k", load, fresh_for=hour, model=User) for _ in range(2)]
        # Written by another version of the code: as good as nothing.
        found.append(await sdk.swr("k", load_other, fresh_for=hour, model=OtherUser))
        return [(each.value, each.status) for each in found]

    ada = User(name="Ada")
    other = OtherUser(number=1)
    assert asyncio.run(use()) == [(ada, "miss"), (ada, "fresh"), (other, "miss")]


def test_swr__max_age_of_nothing(client: redis.Redis) -> None:
    source = Source()

    async def use() -> list[str]:
        return [(await sdk.swr("k", source.load, max_age=0 * SECOND)).status for _ in range(2)]

    assert asyncio.run(use()) == ["miss", "miss"]
    assert client.keys() == []


def test_redis_out_of_reach() -> None:
    """A cache without entries, not a node that fails."""
    source = Source()
    nowhere = caches.install(
        Settings(
            database_url="postgresql://nowhere/none", redis_url=f"redis://127.0.0.1:{any_port()}"
        )
    )

    async def use() -> Any:
        await sdk.cache_set("k", 1)
        found = await sdk.swr("k", source.load)
        return await sdk.cache_get("k"), found.value, found.status

    assert asyncio.run(use()) == (None, 1, "miss")
    nowhere.close()
