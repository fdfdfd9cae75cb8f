"""The end of a worker process is asked for in a signal's handler, where no lock may be waited for."""

import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

from langgraph.runtime import RunControl

from trellis_workers.drain import Drain

SECONDS = 10.0


def new_drain(draining: threading.Event, begun: threading.Event) -> Drain:
    """One that has begun, and goes no further: at its end it would end this process."""

    def end() -> None:
        begun.set()
        threading.Event().wait()

    host: Any = SimpleNamespace(draining=draining, settings=SimpleNamespace(drain_seconds=60.0))
    executor: Any = SimpleNamespace(attempts=[])
    return Drain(host, executor, begun=end)


def test_begin__while_the_event_is_being_waited_for() -> None:
    """The signal comes when the main thread has just taken the event's lock to wait for it."""
    draining, begun = threading.Event(), threading.Event()
    drain = new_drain(draining, begun)

    with cast(Any, draining)._cond:
        returned = threading.Thread(target=drain.begin, daemon=True)
        returned.start()
        returned.join(SECONDS)
        assert not returned.is_alive()

    assert draining.wait(SECONDS)
    assert begun.wait(SECONDS)


def test_begin__many_times() -> None:
    draining, begun = threading.Event(), threading.Event()
    drain = new_drain(draining, begun)

    for _ in range(100_000):
        drain.begin()

    assert begun.wait(SECONDS)


def test_empty__an_attempt_that_began_after_the_others_were_asked() -> None:
    """It is handed back like them: cancelled without a word it would have failed."""
    control, seen = RunControl(), []
    released: Future[None] = Future()
    released.set_result(None)
    task = SimpleNamespace(cancel=lambda: seen.append(control.drain_requested))
    late = SimpleNamespace(control=control, task=task, run=SimpleNamespace(claim=None))
    listed = iter([[]])
    executor: Any = type(
        "Executor", (), {"is_busy": True, "attempts": property(lambda _: next(listed, [late]))}
    )()
    host: Any = SimpleNamespace(
        loop=SimpleNamespace(call_soon_threadsafe=lambda call: call()),
        writer=SimpleNamespace(submit=lambda _: released),
        keeper=SimpleNamespace(let_go=lambda _: None),
    )
    drain = Drain(host, executor, begun=lambda: None)

    drain._empty(time.monotonic())

    assert seen == [True]
