"""A worker is asked to leave in the middle of runs: it ends what it can, and hands over the rest."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from acceptance.course import Held, hold
from acceptance.system import FAULTS, Process, System, running, wait_for

ALL = ["one", "two", "three"]


@dataclass
class Drain:
    """What was under way when the worker was asked to leave."""

    system: System
    leaving: Process
    quick: Held
    slow: Held


@pytest.fixture(scope="module")
def drain(
    new_system: Callable[..., System], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Drain]:
    """SIGTERM to a worker with two runs: one can end in time, the other cannot."""
    with running(new_system(env=FAULTS)) as system, ThreadPoolExecutor() as clients:
        leaving = system.start("worker", TRELLIS_DRAIN_SECONDS="6")
        system.start_web()
        leaving.wait_until_says("worker.ready")
        quick = hold(system, clients, tmp_path_factory.mktemp("quick"))
        slow = hold(system, clients, tmp_path_factory.mktemp("slow"))
        system.start_worker()

        leaving.terminate()
        leaving.wait_until_says("worker.draining")
        quick.course.open("two")
        yield Drain(system, leaving, quick, slow)


def test_runs_that_can_end_do(drain: Drain) -> None:
    answer = drain.quick.client.result()

    assert answer.json()["log"] == ALL
    assert drain.quick.count(">two") == 1


def test_the_others_are_handed_over(drain: Drain) -> None:
    wait_for(lambda: drain.slow.count(">two") == 2, what="another worker at the second step")
    drain.slow.course.open("two")

    assert drain.slow.client.result().json()["log"] == ALL
    assert [drain.slow.count(f">{step}") for step in ALL] == [1, 2, 1]
    [(crashes,)] = drain.system.rows(
        "SELECT crashes FROM run WHERE thread_id = %s", drain.slow.thread_id
    )
    assert crashes == 0


def test_ends_well(drain: Drain) -> None:
    assert drain.leaving.ends() == 0, drain.leaving.said()
