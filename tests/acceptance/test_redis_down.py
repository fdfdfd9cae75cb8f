"""Redis goes away and comes back: runs are accepted, executed and answered all the same."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis as Client

from acceptance.course import Course
from acceptance.sse import frames
from acceptance.system import System, running, wait_for
from trellis.dev.embedded import Server, start_valkey

ALL = ["one", "two", "three"]


class Redis:
    """A Redis that can be stopped, and started again where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server: Server = start_valkey(folder)

    def stop(self) -> None:
        self.server.stop()

    def start(self) -> None:
        if not self.server.is_alive():
            self.server = start_valkey(self._folder, port=self.server.port)


@pytest.fixture(scope="module")
def redis(server_folder: Path) -> Iterator[Redis]:
    redis = Redis(server_folder / "redis-down")
    yield redis
    redis.stop()


@pytest.fixture(scope="module")
def system(new_system: Callable[..., System], redis: Redis) -> Iterator[System]:
    with running(new_system(redis_url=redis.server.url)) as system:
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system
        redis.start()


@pytest.fixture(autouse=True)
def _redis_runs(redis: Redis) -> None:
    redis.start()


def is_well(system: System, course: Course) -> bool:
    body = {"assistant_id": "steps", "input": course.input(), "stream_mode": "updates"}
    events = frames(system.request("POST", "/runs/stream", body).body)
    return [name for name, *_ in events] == ["metadata"] + ["updates"] * 3


def wait_until_well(system: System, course: Course) -> None:
    """Return when a stream has all its events: everybody has noticed that Redis is back."""
    wait_for(lambda: is_well(system, course), what="a stream with all its events")


def test_stream__ends_with_the_final_values(
    system: System, redis: Redis, course: Course, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wait_until_well(system, Course(tmp_path_factory.mktemp("before")))
    body = {"assistant_id": "steps", "input": course.input(hold=("two",))}
    with system.open("POST", "/runs/stream", body) as response:
        first = b""
        while b"metadata" not in first:
            first += response.readline()
        course.wait_until_notes(">two")

        redis.stop()
        course.open("two")

        events = frames(first + response.read())
    assert events[0][0] == "metadata"
    assert (events[-1][0], events[-1][1]["log"]) == ("values", ALL)


def test_flush__whoever_comes_back_is_told(system: System, redis: Redis, course: Course) -> None:
    """Who was there misses nothing; who comes after gets the values of the moment."""
    wait_until_well(system, course)
    body = {
        "assistant_id": "steps",
        "input": course.input(hold=("two", "three")),
        "stream_resumable": True,
    }
    with system.open("POST", f"/threads/{system.new_thread()}/runs/stream", body) as there:
        path = there.getheader("Location")
        first = b""
        while first.count(b"event: values") < 2:
            first += there.readline()
        course.wait_until_notes(">two")

        with closing(Client.from_url(redis.server.url)) as client:
            client.flushall()
        course.open("two")
        course.wait_until_notes(">three")
        back = {"Last-Event-ID": "-1"}
        with system.open("GET", path, headers=back) as late, ThreadPoolExecutor() as pool:
            head = b""
            while b"event: values" not in head:
                head += late.readline()
            course.open("three")
            reading = pool.submit(late.read)
            rest = frames(first + there.read())
            told = frames(head + reading.result())

    assert [name for name, *_ in rest] == ["metadata"] + ["values"] * 4
    assert [name for name, *_ in told] == ["gap", "values", "values"]
    assert [data["log"] for _, data, _ in told[1:]] == [ALL[:2], ALL]


def test_wait__begun_before(system: System, redis: Redis, course: Course) -> None:
    body = {"assistant_id": "steps", "input": course.input(hold=("two",))}
    with ThreadPoolExecutor() as pool:
        values = pool.submit(system.post, "/runs/wait", body)
        course.wait_until_notes(">two")

        redis.stop()
        course.open("two")

        assert values.result()["log"] == ALL


def test_create__is_accepted_and_executed(system: System, redis: Redis, course: Course) -> None:
    thread_id = system.new_thread()
    redis.stop()

    run = system.post(
        f"/threads/{thread_id}/runs", {"assistant_id": "steps", "input": course.input()}
    )

    path = f"/threads/{thread_id}/runs/{run['run_id']}"
    wait_for(lambda: system.get(path)["status"] == "success", what="the run's success")
    assert system.get(f"/threads/{thread_id}")["values"]["log"] == ALL


def test_wait__begun_while_redis_is_down(system: System, redis: Redis, course: Course) -> None:
    redis.stop()

    values = system.post("/runs/wait", {"assistant_id": "steps", "input": course.input()})

    assert values["log"] == ALL


def test_wait__for_a_question(system: System, redis: Redis) -> None:
    redis.stop()

    values = system.post("/runs/wait", {"assistant_id": "hitl", "input": {"value": "v"}})

    assert (values["value"], values["log"]) == ("v", ["prepare"])
    assert values["__interrupt__"][0]["value"] == {"question": "approve?", "value": "v"}


def test_ok__tells_what_is_wrong(system: System, redis: Redis) -> None:
    redis.stop()

    answer = system.request("GET", "/ok?check_db=1")

    assert answer.status == 500
    assert answer.json() == {"ok": False, "services": {"database": "ok", "redis": "unreachable"}}
    assert system.request("GET", "/ok").status == 200


def test_all_is_well_again(system: System, redis: Redis, course: Course) -> None:
    redis.stop()
    redis.start()

    wait_until_well(system, course)

    assert all(process.is_alive() for process in system.processes), system.said()
