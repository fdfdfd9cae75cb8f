"""The log of a run in Redis: its keys, its entries, and the one script that appends to it.

A run's log is a Redis Stream. Each entry is an event as the client will get it, or the end:

    f  fence of the attempt that wrote it
    n  number of the entry within that attempt, from 1: a reader sees what is missing or doubled
    e, x        name and frame of an event
    end, v      status of the finished run ("success paused": it waits at a node; empty: it was deleted), and its final
                values as JSON if they are small enough

Beside it stands `fence`, which holds "<highest fence> <its last n> <bytes since the last trim>".
Both keys expire; losing them loses no run and no result, because Postgres decides how a run ended.

The claims of a thread are a stream of their own, of a few entries, so that whoever follows the thread hears of each
attempt when it begins. An entry's id is `<fence>-0`:

    r  run id; empty for a change of the state by hand
    g  graph id
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, cast

import hiredis
from redis import Redis as SyncRedis
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from trellis import telemetry
from trellis.domain.runs import Ended

#: Behind the status of a run that waits at a node.
PAUSED = " paused"

#: How long the end of a run is kept that ended without a worker, in seconds.
_END_SECONDS = 120
#: How long a claim can be heard of here. Who comes later learns of it from Postgres.
_CLAIM_SECONDS = 30

#: Appends what a run's writer has waiting. A batch sent twice, because the answer to the first one
#: was lost, is appended once; a batch of an attempt that was replaced is not appended at all (0).
#: The first batch of an attempt also tells those who follow the thread that it has begun, if there is a third key,
#: unless a later one has been told of: then they have asked Postgres. A thread that was deleted and made again counts
#: from one again.
#: ARGV: fence, max entries, max bytes, seconds to live, 1 if the last entry is the end, graph; then n, name, data.
APPEND = f"""
local held, last, bytes = 0, 0, 0
local state = redis.call('GET', KEYS[2])
if state then
  local f, n, b = string.match(state, '^(%d+) (%d+) (%d+)$')
  held, last, bytes = tonumber(f) or 0, tonumber(n) or 0, tonumber(b) or 0
end
local fence = tonumber(ARGV[1])
if fence < held then return 0 end
if fence > held then
  last = 0
  if KEYS[3] then
    local claim = {{'XADD', KEYS[3], 'MAXLEN', '~', 100, ARGV[1] .. '-0', 'r', string.sub(KEYS[1], -36), 'g', ARGV[6]}}
    if redis.pcall(unpack(claim)).err and fence == 1 then
      redis.call('DEL', KEYS[3])
      redis.call(unpack(claim))
    end
    redis.call('EXPIRE', KEYS[3], {_CLAIM_SECONDS})
  end
end
for i = 7, #ARGV, 3 do
  local n = tonumber(ARGV[i])
  if n > last then
    last = n
    bytes = bytes + #ARGV[i + 2]
    if ARGV[5] == '1' and i + 2 == #ARGV then
      if ARGV[i + 2] == '' then
        redis.call('XADD', KEYS[1], '*', 'f', ARGV[1], 'n', ARGV[i], 'end', ARGV[i + 1])
      else
        redis.call('XADD', KEYS[1], '*', 'f', ARGV[1], 'n', ARGV[i], 'end', ARGV[i + 1], 'v', ARGV[i + 2])
      end
    else
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*',
                 'f', ARGV[1], 'n', ARGV[i], 'e', ARGV[i + 1], 'x', ARGV[i + 2])
    end
  end
end
if bytes > tonumber(ARGV[3]) then
  local kept = redis.call('XLEN', KEYS[1])
  while bytes > tonumber(ARGV[3]) and kept > 1 do
    kept, bytes = math.ceil(kept / 2), bytes / 2
  end
  redis.call('XTRIM', KEYS[1], 'MAXLEN', kept)
end
redis.call('SET', KEYS[2], string.format('%d %d %d', fence, last, bytes), 'EX', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""


def stream_key(prefix: str, run_id: str) -> str:
    return f"{prefix}s:{run_id}"


def fence_key(prefix: str, run_id: str) -> str:
    return f"{prefix}fence:{run_id}"


def claims_key(prefix: str, tenant_id: str, thread_id: str) -> str:
    return f"{prefix}t:{tenant_id}:{thread_id}"


def append_ends(client: SyncRedis, prefix: str, ends: Sequence[Ended]) -> None:
    """
    Tell whoever follows runs, or their threads, of ends that no worker tells of. Best effort.

    Without it a follower finds out from Postgres, a few seconds later.
    """
    if not ends:
        return
    try:
        with client.pipeline(transaction=False) as pipe:
            for tenant_id, thread_id, run_id, graph_id, fence, status in ends:
                keys = stream_key(prefix, run_id), fence_key(prefix, run_id)
                claims = claims_key(prefix, tenant_id, thread_id)
                limits = map(str, (fence, 1000, 1 << 20, _END_SECONDS))
                end = "1", graph_id, "1", status or "", ""
                pipe.eval(APPEND, 3, *keys, claims, *limits, *end)
            pipe.execute()
    except RedisError as error:
        telemetry.log().warning(telemetry.STREAM_REDIS_DOWN, error=str(error))


def append_change(
    client: SyncRedis, prefix: str, tenant_id: str, thread_id: str, *, fence: int
) -> None:
    """Tell whoever follows a thread that its state was changed by hand. Best effort: they find out some time."""
    key = claims_key(prefix, tenant_id, thread_id)
    try:
        with client.pipeline(transaction=False) as pipe:
            pipe.xadd(key, {"r": "", "g": ""}, id=f"{fence}-0", maxlen=100)
            pipe.expire(key, _CLAIM_SECONDS)
            pipe.execute()
    except RedisError as error:
        telemetry.log().warning(telemetry.STREAM_REDIS_DOWN, error=str(error))


def forget_claims(
    client: SyncRedis, prefix: str, tenant_id: str, thread_ids: Sequence[str]
) -> None:
    """Forget the claims of threads that were deleted: one that is made anew counts from one again. Best effort."""
    if not thread_ids:
        return
    try:
        client.delete(*[claims_key(prefix, tenant_id, thread_id) for thread_id in thread_ids])
    except RedisError as error:
        telemetry.log().warning(telemetry.STREAM_REDIS_DOWN, error=str(error))


def connect(url: str, *, max_connections: int, timeout_seconds: float) -> Redis:
    """
    A client that fails fast. Connects on first use; whoever wants more connections than there are waits.

    Retries belong to the caller, who knows what may be sent twice.
    """
    pool = BlockingConnectionPool.from_url(
        url, **options(timeout_seconds), max_connections=max_connections, timeout=timeout_seconds
    )
    client = Redis.from_pool(pool)
    for command in ("XRANGE", "XREVRANGE"):  # redis-py would rebuild every entry as a dict
        client.set_response_callback(command, _raw)
    return client


def options(timeout_seconds: float) -> dict[str, Any]:
    """What every connection of ours has in common."""
    return {
        # RESP3 costs a HELLO per connection, and some managed servers refuse it.
        "protocol": 2,
        # Ours is around the whole exchange. With redis-py's, a cancellation is lost now and then before Python 3.12.
        "socket_timeout": None,
        "socket_connect_timeout": timeout_seconds,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
    }


class Line:
    """One connection of our own, for what happens thousands of times a second: redis-py packs commands slowly."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._pool = ConnectionPool.from_url(url, **options(timeout_seconds), max_connections=1)
        self._timeout_seconds = timeout_seconds
        self._connection: AbstractConnection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.is_connected

    async def ask(self, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
        """Send commands in one go; an error answer is returned in its place."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                connection = self._connection or await self._connect()
                # Its stub knows tuples of one only.
                packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
                await connection.send_packed_command(packed)
                return [await _answer(connection) for _ in commands]
        except (RedisError, OSError):
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await asyncio.sleep(0)  # the transport closes itself in the loop's next round

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
        self._connection = connection
        return connection


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error


async def execute(redis: Redis, *command: str | bytes | int) -> Any:
    """Send a command by a client of `connect`, and return the answer as it came, in the time that it has."""
    async with asyncio.timeout(cast(BlockingConnectionPool, redis.connection_pool).timeout):
        return await redis.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's


def _raw(response: Any, **_: Any) -> Any:
    return response
