"""The application on a real database, with a loop beside it, and no worker: tests write what a worker would."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from databases import empty
from integration.api.doubles import Listener, Worker
from trellis.api.app import create_app
from trellis.api.bodies import AsyncBody
from trellis.api.commands import FRAME
from trellis.bridge import dispatch
from trellis.db.checkpoints import DirectBackend
from trellis.runtime import Runtime, build
from trellis.services.assistants import ensure_defaults
from trellis.settings import Settings
from trellis.stream.reader import Reader, Timing
from trellis.stream.writer import EventWriter

PROJECT = Path(__file__).with_name("project") / "langgraph.json"

Sql = Callable[..., Any]
OnLoop = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="session")
def shared_database_url(new_database: Callable[[], str]) -> str:
    """One database for the API's tests: emptying it is faster than making one for each of them."""
    return new_database()


@pytest.fixture
def settings(shared_database_url: str, redis_url: str) -> Settings:
    with closing(psycopg2.connect(shared_database_url)) as connection, connection:
        empty(connection)
    return Settings(database_url=shared_database_url, redis_url=redis_url, config_path=PROJECT)


@pytest.fixture
def timing() -> Timing:
    """When streams speak up."""
    return Timing(beat_seconds=0.3, first_check_seconds=0.2, end_lag_seconds=0.1)


@pytest.fixture
def rt(settings: Settings, loop: asyncio.AbstractEventLoop, timing: Timing) -> Iterator[Runtime]:
    rt = build(settings)
    rt.loop = loop
    rt.reader = Reader(settings.redis_url, timing=timing)
    ensure_defaults(rt)
    yield rt
    asyncio.run_coroutine_threadsafe(rt.reader.close(), loop).result()
    rt.close()


@pytest.fixture
def app(rt: Runtime, on_loop: OnLoop) -> Flask:
    return bridged(create_app(rt), on_loop)


def bridged(app: Flask, on_loop: OnLoop) -> Flask:
    """The application, with its async bodies iterated on the loop."""

    def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        response = dispatch(app, environ)
        if not isinstance(body := response.response, AsyncBody):
            return response(environ, start_response)
        start_response(response.status, list(response.headers))
        return iter(lambda: on_loop(_next(body)), None)

    app.wsgi_app = wsgi  # type: ignore[method-assign]  # Flask's documented way to wrap an application
    return app


async def _next(body: AsyncBody) -> bytes | None:
    return await anext(body.chunks, None)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def on_loop(loop: asyncio.AbstractEventLoop) -> OnLoop:
    """Run a coroutine on the loop, and wait for it."""
    return lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=30)


@pytest.fixture
def sql(rt: Runtime) -> Sql:
    """Execute a statement. Returns the first column of the first row, if there is one."""

    def execute(statement: str, **params: Any) -> Any:
        with rt.engine.begin() as tx:
            result = tx.execute(text(statement), params)
            return result.scalar() if result.returns_rows else None

    return execute


@pytest.fixture
def rows(sql: Sql) -> Callable[[], tuple[int, ...]]:
    """How many threads, runs and assistants there are."""
    return lambda: tuple(
        sql(f"SELECT count(*) FROM {table}") for table in ("thread", "run", "assistant")
    )


@pytest.fixture
def thread_id(client: FlaskClient) -> str:
    """A fresh thread."""
    found: str = client.post("/threads", json={}).get_json()["thread_id"]
    return found


@pytest.fixture
def run_graph(rt: Runtime, on_loop: OnLoop) -> Callable[[str, str, str], None]:
    """Run a graph of the project on a thread, so that its checkpoints are there."""
    from trellis.db.checkpoints.saver import Saver
    from trellis.db.serde import serializer

    async def run(graph_id: str, thread_id: str, value: str) -> None:
        backend = DirectBackend(rt.engine)
        async with rt.registry.open(graph_id, access_context="threads.create_run") as graph:
            graph = copy.copy(graph)
            graph.checkpointer = Saver(backend, serde=serializer())
            with suppress(ValueError):
                config: Any = {"configurable": {"thread_id": thread_id}}
                await graph.ainvoke({"value": value}, config)
        backend.close()

    return lambda *given: on_loop(run(*given))


@pytest.fixture
def ran(client: FlaskClient, run_graph: Callable[..., None]) -> Callable[[str, str], str]:
    """Run a graph on a new thread, as a worker would. Returns the thread's id."""

    def on_new_thread(graph_id: str, value: str) -> str:
        body = {"metadata": {"graph_id": graph_id}}
        thread_id: str = client.post("/threads", json=body).get_json()["thread_id"]
        run_graph(graph_id, thread_id, value)
        return thread_id

    return on_new_thread


@pytest.fixture
def worker(rt: Runtime, settings: Settings, on_loop: Callable[..., Any]) -> Iterator[Worker]:
    async def connect() -> EventWriter:
        return EventWriter(settings.redis_url)

    worker = Worker(rt=rt, writer=on_loop(connect()), on_loop=on_loop)
    yield worker
    on_loop(worker.writer.close())


@pytest.fixture
def new_run(client: FlaskClient, thread_id: str) -> Callable[..., dict[str, Any]]:
    """Create a run; on the test's thread unless it is to be stateless."""

    def create(path: str = f"/threads/{thread_id}/runs", **fields: Any) -> dict[str, Any]:
        run: dict[str, Any] = client.post(path, json={"assistant_id": "echo", **fields}).get_json()
        return run

    return create


@pytest.fixture
def listen(app: Flask, on_loop: OnLoop) -> Iterator[Callable[..., Listener]]:
    """Open a stream, and hang up at the end of the test."""
    listeners: list[Listener] = []

    def open_stream(
        path: str, body: Any = None, *, is_frame: bool = False, **headers: str
    ) -> Listener:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        method = "GET" if body is None else "POST"
        with app.test_request_context(path, method=method, json=body, headers=named) as context:
            environ = context.request.environ
        if is_frame:
            environ[FRAME] = True
        listeners.append(Listener(dispatch(app, environ), on_loop))
        return listeners[-1]

    yield open_stream
    for listener in listeners:
        listener.hang_up()
