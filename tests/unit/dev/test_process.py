import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from trellis.dev.process import any_port, free_port, is_free, kill_session, poll_until, spawn
from trellis.processes import describe_exit


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_is_free(taken: int) -> None:
    assert not is_free("127.0.0.1", taken)
    assert is_free("127.0.0.1", any_port())


def test_is_free__taken_on_every_address() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        assert not is_free("127.0.0.1", listener.getsockname()[1])


def test_free_port__is_the_next_one(taken: int) -> None:
    found = free_port("127.0.0.1", taken)

    assert found is not None
    assert found > taken


def test_free_port__there_is_none(taken: int) -> None:
    assert free_port("127.0.0.1", taken, tries=1) is None


def test_poll_until__the_answer_stays_no() -> None:
    assert not poll_until(lambda: False, seconds=0.02)


def start(script: str, *, output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return spawn(["sh", "-c", script], dies_with=signal.SIGKILL, output=output)


def test_kill_session__what_it_started_too() -> None:
    leader = start("sleep 600 &", output=subprocess.PIPE)
    leader.wait()

    kill_session(leader)

    # Whoever writes there is gone.
    leader.communicate(timeout=10)


def test_kill_session__its_number_is_another_process_now() -> None:
    bystander = start("sleep 600")
    gone = start("exit")
    gone.wait()
    gone.pid = bystander.pid

    kill_session(gone)

    bystander.terminate()
    assert bystander.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "was killed by SIGKILL"), (3, "ended with exit code 3")]
)
def test_describe_exit(code: int, words: str) -> None:
    assert describe_exit(code) == words
