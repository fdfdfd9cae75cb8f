"""Every fault of the matrix, by name: each is let loose while clients ask, and ends when they have their answers."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from acceptance.system import wait_for
from chaos.field import Field, end

Act = Callable[[Field, random.Random], None]

#: Longer than a lease, which is 15 s: others have taken over when the process goes on. As short as that goes in `make test`.
FROZEN_SECONDS = 30.0 if int(os.environ.get("SEEDS", "1")) > 1 else 20.0


def faulted(pid: int, fault: str, wait: Callable[[], None]) -> None:
    """Kill a process, ask it to leave, or freeze it for longer than its lease."""
    if fault == "stop":
        os.kill(pid, signal.SIGSTOP)
        try:
            wait()
        finally:
            os.kill(pid, signal.SIGCONT)
    else:
        os.kill(pid, signal.SIGKILL if fault == "kill" else signal.SIGTERM)


def frozen() -> None:
    """Let a lease run out: nothing can be waited for, as nothing must happen."""
    threading.Event().wait(FROZEN_SECONDS)


# A worker process, by what it does


def idle(field: Field, fault: str, pick: random.Random) -> None:
    faulted(pick.choice(field.processes()), fault, frozen)
    held = field.hold()
    held.course.open("two")
    end(held)


def node(field: Field, fault: str, _: random.Random) -> None:
    held = field.hold()

    def taken_over() -> None:
        held.course.open("two")
        frozen()
        wait_for(lambda: held.count(">two") == 2, what="another worker at the second step")

    faulted(field.holder(held.thread_id), fault, taken_over)
    held.course.open("two")
    end(held)


def put(field: Field, fault: str, _: random.Random) -> None:
    held = field.hold()
    pid = field.holder(held.thread_id)
    with field.blocked("LOCK TABLE checkpoint IN EXCLUSIVE MODE") as is_waited_for:
        held.course.open("two")
        wait_for(is_waited_for, what="a writer at the lock")
        faulted(pid, fault, lambda: None)
    if fault == "stop":
        faulted(pid, fault, frozen)
    end(held)


def finish(field: Field, fault: str, _: random.Random) -> None:
    held = field.hold()
    pid = field.holder(held.thread_id)
    lock = "SELECT 1 FROM thread WHERE thread_id = %s FOR UPDATE"
    with field.blocked(lock, held.thread_id) as is_waited_for:
        held.course.open("two")
        wait_for(is_waited_for, what="a finish at the lock")
        faulted(pid, fault, lambda: None)
    if fault == "stop":
        faulted(pid, fault, frozen)
    end(held)


STAGES = {"idle": idle, "node": node, "put": put, "finish": finish}
SIGNS = {"kill": "kill -9", "term": "SIGTERM", "stop": "SIGSTOP"}


def cell(fault: str, stage: str) -> tuple[str, Act]:
    return f"{SIGNS[fault]} in {stage}", lambda field, pick: STAGES[stage](field, fault, pick)


# Whole programs


def lose_machine(field: Field, pick: random.Random) -> None:
    """Parent and children are gone: nobody is left to say so but the leases."""
    held = field.hold()
    field.holder(held.thread_id)
    pick.choice(field.workers).kill()
    held.course.open("two")
    field.start_workers()
    end(held)


def turn_clock(field: Field, _: random.Random) -> None:
    """The worker whose clock was fast comes back with one that is slow."""
    field.workers[1].stop()
    field.skew = -field.skew
    field.start_workers()


def kill_web(field: Field, pick: random.Random) -> None:
    pick.choice(field.webs).kill()
    field.start_webs()


def replace_web(field: Field, pick: random.Random) -> None:
    pick.choice(field.webs).stop()
    field.start_webs()


# Stores


def on_redis(fault: str) -> Act:
    """Those who ask while Redis is not well are answered before it is."""

    def act(field: Field, _: random.Random) -> None:
        disturbed: AbstractContextManager[None] = getattr(field.redis, fault)()
        with disturbed, field.everybody_asks():
            pass

    return act


def on_postgres(field: Field, pick: random.Random) -> None:
    with field.postgres.down():
        # How long it is down, as DBOS has it.
        threading.Event().wait(pick.uniform(0, 2))


ALWAYS: list[tuple[str, Act]] = [
    *[cell("kill", stage) for stage in STAGES],
    ("kill -9 of a web", kill_web),
    ("Postgres down", on_postgres),
    ("Redis flushed", on_redis("flushed")),
    ("Redis full", on_redis("full")),
    ("Redis restarted", on_redis("restarted")),
    ("Redis a black hole", on_redis("swallowed")),
]
#: So many for each seed.
IN_TURN: list[tuple[str, Act]] = [
    ("Postgres down again", on_postgres),
    cell("term", "put"),
    ("clock turned by 20 min", turn_clock),
    cell("term", "node"),
    ("SIGTERM of a web", replace_web),
    cell("term", "finish"),
    ("Redis frozen", on_redis("frozen")),
    cell("term", "idle"),
]
#: Each takes a lease.
SLOW: list[tuple[str, Act]] = [
    cell("stop", "node"),
    cell("stop", "put"),
    cell("stop", "finish"),
    ("kill -9 of a whole worker", lose_machine),
    cell("stop", "idle"),
]


def storm(pick: random.Random, *, seed: int, others: int) -> list[tuple[str, Act]]:
    """The faults of a seed, so many of those that take turns, and one of the slow ones, in an order of the seed's."""
    turns = [IN_TURN[(seed * others + n) % len(IN_TURN)] for n in range(others)]
    faults = [*ALWAYS, *turns, SLOW[seed % len(SLOW)]]
    pick.shuffle(faults)
    return faults
