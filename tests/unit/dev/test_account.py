import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trellis.dev.account import Account, can_reach, can_run, make_passage, place_for, within_reach
from trellis.dev.binaries import Postgres

STRANGER = Account(uid=64999, gid=64999)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that strangers can reach: pytest's own is closed to them."""
    with tempfile.TemporaryDirectory(prefix="trellis-account-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def closed(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def test_can_reach(root: Path) -> None:
    assert can_reach(STRANGER, root / "file")


def test_can_reach__through_a_closed_folder(root: Path) -> None:
    assert not can_reach(STRANGER, closed(root / "closed") / "file")


def test_can_reach__as_ourselves(root: Path) -> None:
    assert can_reach(None, closed(root / "closed") / "file")


def test_can_run__what_only_its_owner_may_start(root: Path) -> None:
    program = root / "program"
    program.touch(mode=0o700)

    assert not can_run(STRANGER, program)


def test_make_passage__whatever_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        make_passage(root / "a" / "b")
    finally:
        os.umask(before)

    assert can_reach(STRANGER, root / "a" / "b" / "file")


def test_place_for(root: Path) -> None:
    assert place_for(root, STRANGER, shared=root / "shared") == root


def test_place_for__a_closed_folder(root: Path) -> None:
    asked = closed(root / "closed")
    shared = root / "shared"

    place = place_for(asked, STRANGER, shared=shared)

    assert place.is_relative_to(shared)
    assert place == place_for(asked, STRANGER, shared=shared)


def test_place_for__a_folder_opened_since(root: Path) -> None:
    asked = closed(root / "closed")
    place = place_for(asked, STRANGER, shared=root / "shared")
    (place / "data").mkdir()

    asked.chmod(0o755)

    assert place_for(asked, STRANGER, shared=root / "shared") == place


def a_wheel(folder: Path) -> Postgres:
    programs = folder / "some_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (programs / "postgres").touch(mode=0o700)
    (folder / "some_postgres.libs").mkdir()
    (folder / "some_postgres.libs" / "libpq.so").touch(mode=0o600)
    return Postgres(bin=programs, major=18, package=folder / "some_postgres")


def test_within_reach__copies_the_programs_with_the_libraries_beside_them(root: Path) -> None:
    wheel = a_wheel(closed(root / "site-packages"))

    copy = within_reach(wheel, STRANGER, shared=root / "shared")

    assert can_run(STRANGER, copy.bin / "postgres")
    libraries = copy.bin / ".." / ".." / ".." / "some_postgres.libs" / "libpq.so"
    assert libraries.stat().st_mode & 0o004
    assert copy == within_reach(wheel, STRANGER, shared=root / "shared")


def test_within_reach__leaves_the_wheel_as_it_was(root: Path) -> None:
    wheel = a_wheel(closed(root / "site-packages"))

    within_reach(wheel, STRANGER, shared=root / "shared")

    assert (wheel.bin / "postgres").stat().st_mode & 0o777 == 0o700


def test_within_reach__as_ourselves(root: Path) -> None:
    wheel = a_wheel(closed(root / "site-packages"))

    assert within_reach(wheel, None, shared=root / "shared") == wheel
