"""Who asks, and what alice has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
from flask import Flask
from sqlalchemy import text

from integration.api.access.callers import (
    AUTH_PROJECT,
    CRON,
    KEYS,
    RUN,
    Caller,
    Callers,
    callers,
    keys,
)
from trellis.api.app import create_app
from trellis.runtime import Runtime, build
from trellis.services.assistants import ensure_defaults
from trellis.settings import Settings
from trellis.stream.reader import Reader


@pytest.fixture(scope="module", params=["tenants", "owners"])
def rt(
    request: pytest.FixtureRequest,
    new_database: Callable[[], str],
    new_redis: Callable[[], str],
    loop: asyncio.AbstractEventLoop,
) -> Iterator[Runtime]:
    """Two worlds: tenants by API key, and owners in one tenant by a user's own handlers."""
    tenants = request.param == "tenants"
    rt = build(
        Settings(
            database_url=new_database(),
            redis_url=new_redis(),
            config_path=AUTH_PROJECT.with_name("langgraph.json") if tenants else AUTH_PROJECT,
            api_keys=keys() if tenants else None,
        )
    )
    rt.loop = loop
    rt.reader = Reader(rt.settings.redis_url)
    ensure_defaults(rt)
    yield rt
    asyncio.run_coroutine_threadsafe(rt.reader.close(), loop).result()
    rt.close()


@pytest.fixture
def people(app: Flask, rt: Runtime) -> Callers:
    if rt.settings.api_keys:
        return callers(app, lambda n: {"X-Api-Key": KEYS[n][1] if n in KEYS else "unknown"})
    return callers(app, lambda name: {"Authorization": f"Bearer {name}"})


@pytest.fixture(scope="module")
def ids(rt: Runtime) -> Mapping[str, str]:
    """What alice has: a thread with a pending run and a checkpoint id; an assistant of her own."""
    client = create_app(rt).test_client()
    headers = {"X-Api-Key": KEYS["alice"][1], "Authorization": "Bearer alice"}
    alice = Caller(client, headers)
    thread_id = alice.post("/threads", {})["thread_id"]
    run_id = alice.post(f"/threads/{thread_id}/runs", RUN)["run_id"]
    with rt.engine.begin() as tx:
        assistant_id = tx.execute(
            text(
                "INSERT INTO assistant (assistant_id, tenant_id, graph_id, name, metadata) "
                "SELECT gen_random_uuid(), tenant_id, 'echo', 'hers', '{\"owner\": \"alice\"}' "
                "FROM thread WHERE thread_id = CAST(:thread_id AS uuid) RETURNING assistant_id::text"
            ),
            {"thread_id": thread_id},
        ).scalar_one()
    cron_id = alice.post("/runs/crons", CRON)["cron_id"]
    named = {"thread_id": thread_id, "run_id": run_id, "assistant_id": assistant_id}
    return {**named, "cron_id": cron_id, "checkpoint_id": "1", "namespace": "x"}
