import stat
from pathlib import Path

import pytest

from trellis.dev.instance import Instance, occupy, publish, running, withdraw

INSTANCE = Instance(url="http://127.0.0.1:2024", pid=1, config="c", database_url="d", redis_url="r")


def test_running(tmp_path: Path) -> None:
    lock = occupy(tmp_path)
    publish(tmp_path, INSTANCE)

    assert running(tmp_path) == INSTANCE
    lock.release()


def test_running__ended_without_a_word(tmp_path: Path) -> None:
    lock = occupy(tmp_path)
    publish(tmp_path, INSTANCE)

    lock.release()

    assert running(tmp_path) is None


def test_running__not_up_yet(tmp_path: Path) -> None:
    lock = occupy(tmp_path)
    publish(tmp_path, INSTANCE)

    withdraw(tmp_path)

    assert running(tmp_path) is None
    lock.release()


def test_publish__holds_passwords_and_is_private(tmp_path: Path) -> None:
    publish(tmp_path, INSTANCE)

    assert stat.S_IMODE((tmp_path / "dev.json").stat().st_mode) == 0o600


def test_occupy__twice(tmp_path: Path) -> None:
    lock = occupy(tmp_path)

    with pytest.raises(BlockingIOError):
        occupy(tmp_path)
    lock.release()
