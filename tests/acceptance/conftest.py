"""A running Trellis for the session, the official clients on it, and Trellises of one's own for faults."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

from acceptance.course import Course
from acceptance.system import ANSWER_SECONDS, FAULTS, Process, System, running
from trellis.dev.process import any_port


@pytest.fixture(scope="session")
def server(
    new_database: Callable[[], str],
    new_redis: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """One web and one worker process that serve the graphs beside this file."""
    logs = tmp_path_factory.mktemp("server")
    with running(System(new_database(), new_redis(), logs)) as system:
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system


@pytest.fixture(scope="module")
def new_system(
    new_database: Callable[[], str],
    new_redis: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., System]:
    """Make a system on which nothing runs yet; its fields can be given."""

    def make(**given: Any) -> System:
        fields = {
            "database_url": given.pop("database_url", None) or new_database(),
            "redis_url": given.pop("redis_url", None) or new_redis(),
            "logs": tmp_path_factory.mktemp("system"),
        }
        return System(**fields, **given)

    return make


@pytest.fixture(scope="module")
def front(new_system: Callable[..., System]) -> Iterator[System]:
    """A web process; workers are the tests' own."""
    with running(new_system(env=FAULTS)) as system:
        system.start_web()
        yield system


@pytest.fixture
def crew(front: System, tmp_path: Path) -> Iterator[System]:
    """The front end, and workers that end with the test."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with running(replace(front, logs=logs, processes=[])) as system:
        yield system


@pytest.fixture
def second(server: System, tmp_path: Path) -> Iterator[tuple[System, Process]]:
    """Another web process beside the session's, to be lost."""
    logs = tmp_path / "second"
    logs.mkdir()
    with running(replace(server, port=any_port(), logs=logs, processes=[])) as system:
        yield system, system.start_web()


class Blocking:
    """The async client behind the sync client's interface, so that each test runs with both."""

    def __init__(self, runner: asyncio.Runner, target: Any) -> None:
        self._runner = runner
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return Blocking(self._runner, found)
        return lambda *args, **kwargs: self._settle(found(*args, **kwargs))

    def _settle(self, made: Any) -> Any:
        if inspect.iscoroutine(made):
            return self._runner.run(made)
        return self._iterate(made) if hasattr(made, "__anext__") else made

    def _iterate(self, made: Any) -> Iterator[Any]:
        async def step() -> Any:
            return await anext(made, self)

        try:
            while (item := self._runner.run(step())) is not self:
                yield item
        finally:
            self._runner.run(made.aclose())


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def sync_client(server: System) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=server.url, timeout=ANSWER_SECONDS) as client:
        yield client


@pytest.fixture(scope="session")
def async_client(server: System, runner: asyncio.Runner) -> Iterator[LangGraphClient]:
    """Use it on `runner` only."""
    client = get_client(url=server.url, timeout=ANSWER_SECONDS)
    yield client
    runner.run(client.aclose())


@pytest.fixture
def sdk(runner: asyncio.Runner, async_client: LangGraphClient) -> Any:
    """The official async client, called without await: for tests that need not run with both."""
    return Blocking(runner, async_client)


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Any:
    """Each of the two official Python clients."""
    return request.getfixturevalue("sync_client" if request.param == "sync" else "sdk")


@pytest.fixture
def thread_id(server: System) -> str:
    """A new thread."""
    return server.new_thread()


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


@pytest.fixture
def hold(client: Any, thread_id: str, course: Course) -> Callable[..., str]:
    """Start a run and return its id when it stands in its second step."""

    def start(assistant: str = "steps", at: str = "two", **given: Any) -> str:
        run = client.runs.create(thread_id, assistant, input=course.input(hold=(at,)), **given)
        course.wait_until_notes(f">{at}")
        return run["run_id"]

    return start


@pytest.fixture(scope="session")
def clients() -> Iterator[ThreadPoolExecutor]:
    """Clients that wait at the same time."""
    with ThreadPoolExecutor(110) as clients:
        yield clients
