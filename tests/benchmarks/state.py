"""Scenarios of what is kept: idle processes, long threads, a blocked loop, memory over many runs."""

import asyncio
import json
from contextlib import closing

import psycopg2

from benchmarks import processes
from benchmarks.client import body
from benchmarks.load import Load, ask_meanwhile, attempt, pump
from benchmarks.scenarios import Round
from benchmarks.stats import percentile, slope

#: How often memory is read during the many runs.
MEMORY_POINTS = 12
DATABASE_BYTES = """
SELECT COALESCE(SUM(pg_total_relation_size(c.oid)), 0)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r'
   AND n.nspname <> ALL (ARRAY['pg_catalog', 'pg_toast', 'information_schema'])
"""


async def idle(now: Round) -> None:
    """See what the processes hold and use while nobody asks."""
    await now.client.wait("echo")
    # Lets what the last request began come to rest.
    await asyncio.sleep(1)
    before = now.cpu()
    if not before:
        return
    await asyncio.sleep(now.plan.idle_seconds)
    used = processes.used_between(before, now.cpu())
    memory = processes.memory_bytes(now.side.roots)
    resident = processes.resident_bytes(now.side.roots)
    share = 100 / now.plan.idle_seconds
    now.record.values["CPU, % of a core"] = sum(used.values()) * share
    now.record.values["memory PSS, MB"] = sum(memory.values()) / 2**20
    now.record.values["memory RSS, MB"] = sum(resident.values()) / 2**20
    if len(used) > 1:
        for kind in used:
            now.record.values[f"CPU, % of a core, {kind}"] = used[kind] * share
            now.record.values[f"memory PSS, MB, {kind}"] = memory[kind] / 2**20


async def history(now: Round) -> None:
    """Take turns on long threads: time, and bytes in the database."""
    for size in now.plan.history_sizes:
        await _turns(now, size)


async def blocked(now: Round) -> None:
    """Ask the API at a steady pace, then again while an async node blocks its event loop."""
    plan = now.plan
    await now.client.wait("echo")
    calm = await _ask(now, plan.api_seconds)

    thread = await now.client.thread()
    await now.client.start("blocker", {"seconds": plan.block_seconds}, thread=thread)
    meanwhile = Load()
    neighbour = asyncio.create_task(attempt(meanwhile, lambda: now.client.wait("echo")))
    stalled = await _ask(now, plan.block_seconds)
    await neighbour
    now.record.count(meanwhile)

    for name, load in (("calm", calm), ("meanwhile", stalled)):
        now.record.spread(f"API {name}", load)
    rise = percentile(stalled.seconds, 0.99) - percentile(calm.seconds, 0.99)
    now.record.values["API p99 rise, ms"] = rise * 1e3
    now.record.values["an echo run meanwhile, s"] = percentile(meanwhile.seconds, 1.0)


async def memory(now: Round) -> None:
    """See whether what the processes hold grows with the number of runs."""
    watched = {k: v for k, v in now.side.roots.items() if k in ("web", "worker", "server")}
    if not watched:
        return
    part = max(1, now.plan.memory_runs // MEMORY_POINTS)
    points: list[tuple[float, float]] = []
    for number in range(MEMORY_POINTS + 1):
        held = sum(processes.memory_bytes(watched).values())
        points.append((number * part, held))
        if number < MEMORY_POINTS:
            load = await pump(
                lambda: now.client.wait_on_new_thread("echo"), concurrency=32, count=part
            )
            now.record.count(load)
    now.record.values["runs"] = MEMORY_POINTS * part
    now.record.values["before, MB"] = points[0][1] / 2**20
    now.record.values["after, MB"] = points[-1][1] / 2**20
    # The first half fills caches and arenas that stay as they are.
    now.record.values["growth, KB/run"] = slope(points[len(points) // 2 :]) / 1024


async def _turns(now: Round, size: int) -> None:
    thread = await now.client.thread()
    path = f"/threads/{thread}/runs/wait"
    await now.client.post(path, body("echo", input={"messages": _talk(size - 2)}))
    turn = body("echo", input={"messages": [{"role": "user", "content": "and now?"}]})
    bytes_before, cpu_before = _database_bytes(now), now.cpu()
    load = await pump(
        lambda: now.client.post(path, turn),
        concurrency=1,
        count=now.plan.history_turns,
        seconds=now.plan.history_seconds,
    )
    now.record.count(load)
    name = f"{size} messages"
    now.record.spread(f"{name}, turn", load)
    now.note_cpu(name, cpu_before, runs=len(load.seconds))
    bytes_after = _database_bytes(now)
    if bytes_before is not None and bytes_after is not None and load.seconds:
        per_turn = (bytes_after - bytes_before) / len(load.seconds)
        now.record.values[f"{name}, database KB/turn"] = per_turn / 1024

    first = await pump(lambda: now.client.get(f"/threads/{thread}/state"), concurrency=1, count=1)
    now.record.values[f"{name}, first GET state, ms"] = percentile(first.seconds, 1.0) * 1e3
    reads = await pump(
        lambda: now.client.get(f"/threads/{thread}/state"),
        concurrency=1,
        count=now.plan.history_turns,
        seconds=now.plan.history_seconds / 2,
    )
    now.record.count(first)
    now.record.count(reads)
    now.record.spread(f"{name}, GET state", reads)
    # The first run answered what was put in; every turn asked and answered.
    expected = size - 1 + 2 * len(load.seconds)
    found = json.loads(await now.client.get(f"/threads/{thread}/state"))["values"]["messages"]
    if len(found) != expected:
        now.record.errors.append(f"{len(found)} messages on the thread instead of {expected}")


def _talk(count: int) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [
        {"role": roles[number % 2], "content": f"message {number}: " + "lorem ipsum " * 8}
        for number in range(count)
    ]


async def _ask(now: Round, seconds: float) -> Load:
    load = await ask_meanwhile(now.client, seconds=seconds)
    now.record.count(load)
    return load


def _database_bytes(now: Round) -> int | None:
    """Add up tables, indexes and TOAST of everything that is not Postgres's own."""
    if not now.side.database_url:
        return None
    with (
        closing(psycopg2.connect(now.side.database_url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(DATABASE_BYTES)
        return int(cursor.fetchone()[0])
