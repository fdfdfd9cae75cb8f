"""A worker stands still until another one has taken its run over, and then goes on."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from acceptance.course import Course
from acceptance.sse import frames
from acceptance.system import System, wait_for


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_frozen_attempt_sends_nothing_after_the_next_one_began(
    crew: System, course: Course
) -> None:
    body = {"assistant_id": "talking", "input": course.input(), "stream_mode": "custom"}
    path = f"/threads/{crew.new_thread()}/runs/stream"
    worker = crew.start_worker()

    with crew.open("POST", path, body) as response:
        received = b""
        while b"event: custom" not in received:
            received += response.readline()
        first = course.journal()[0]
        with frozen(int(first)):
            crew.end_leases()
            crew.start_worker()
            [second] = wait_for(lambda: {*course.journal()} - {first}, what="the second attempt")
            said = course.journal().count(first)
        # Long frozen, it may see at once that it has lost the run, and say no more.
        wait_for(
            lambda: course.journal().count(first) >= said + 2 or "run.lost" in worker.said(),
            what="the first attempt to go on, or to give up",
        )
        course.open("over")
        received += response.read()

    sent = [(name, data) for name, data, _ in frames(received)]
    began = [n for n, (name, _) in enumerate(sent) if name == "metadata"]
    assert [sent[n][1]["attempt"] for n in began] == [1, 2]
    assert set(sent[1 : began[1]]) == {("custom", int(first))}
    assert set(sent[began[1] + 1 :]) == {("custom", int(second))}
