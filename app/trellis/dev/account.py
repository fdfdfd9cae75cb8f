"""Under which account Postgres runs, for it refuses to be root, and which files that account can reach."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from trellis.dev.binaries import Postgres
from trellis.errors import ConfigError

#: Where root keeps what `nobody` must reach, when the asked place is closed to it.
SHARED = Path("/var/lib/trellis")

_NOBODY = 65534


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user of this machine other than ourselves."""

    uid: int
    gid: int


def choose(data: Path) -> Account | None:
    """
    Choose who runs Postgres on a data directory. None means ourselves.

    Root gives up its rights: to whoever owns the data already, otherwise to `nobody`.

    :raises ConfigError: the account that must run it does not exist, or the data is another's.
    """
    uid = os.geteuid()
    owner = data.stat() if data.exists() else None
    if uid != 0:
        _require_name(uid)
        if owner is not None and owner.st_uid != uid:
            raise ConfigError(
                f"{data} belongs to user {owner.st_uid}, and this is user {uid}. "
                "Choose another --data-dir, or give the files to this user."
            )
        return None
    if owner is not None and owner.st_uid != 0:
        return Account(uid=owner.st_uid, gid=owner.st_gid)
    _require_name(_nobody().uid)
    return _nobody()


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(uid=_NOBODY, gid=_NOBODY)
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def _require_name(uid: int) -> None:
    """
    :raises ConfigError: the account has no entry in the user database, without which initdb fails.
    """
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise ConfigError(
            f"User {uid} has no entry in /etc/passwd, and Postgres does not start without one. "
            "Set DATABASE_URL to a Postgres that runs."
        ) from None


def can_reach(account: Account | None, path: Path) -> bool:
    """Whether the account may enter every folder above the path. None means ourselves: yes."""
    if account is None:
        return True
    return all(_may_enter(account, parent.stat()) for parent in path.resolve().parents)


def _may_enter(account: Account, folder: os.stat_result) -> bool:
    if folder.st_uid == account.uid:
        return bool(folder.st_mode & stat.S_IXUSR)
    if folder.st_gid == account.gid:
        return bool(folder.st_mode & stat.S_IXGRP)
    return bool(folder.st_mode & stat.S_IXOTH)


def can_run(account: Account | None, program: Path) -> bool:
    """Whether the account may start the program."""
    return can_reach(account, program) and (
        account is None or bool(program.stat().st_mode & stat.S_IXOTH)
    )


def within_reach(postgres: Postgres, account: Account | None, *, shared: Path = SHARED) -> Postgres:
    """
    Make sure the account can run Postgres: the same, or a copy of its wheel in a shared place.

    :raises ConfigError: the machine's own Postgres is closed to the account.
    """
    program = postgres.bin / "postgres"
    if can_run(account, program):
        return postgres
    if postgres.package is None:
        raise ConfigError(f"The account that runs Postgres cannot reach {program}.")
    package = postgres.package
    inside = postgres.bin.relative_to(package)
    target = shared / "programs" / f"{package.name}-{_identity(program)}"
    if not target.exists():
        _copy_wheel(package, target)
    return replace(postgres, package=target / package.name, bin=target / package.name / inside)


def _identity(program: Path) -> str:
    found = program.stat()
    return _digest(f"{program} {found.st_size} {found.st_mtime_ns}")


def _copy_wheel(package: Path, target: Path) -> None:
    """Copy a wheel's package and the libraries beside it, which its programs find by relative path."""
    make_passage(target.parent)
    draft = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, draft / folder.name, symlinks=True)
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else _as_owner(path)))
    try:
        draft.rename(target)
    except OSError:
        # Another process made the same copy meanwhile.
        shutil.rmtree(draft)


def _as_owner(path: Path) -> int:
    return 0o555 if path.stat().st_mode & stat.S_IXUSR else 0o444


def place_for(asked: Path, account: Account | None, *, shared: Path = SHARED) -> Path:
    """
    Choose the folder that holds a server's data: the asked one, or a fixed one in a shared place.

    Data that is in the shared place already stays there, whoever opened the asked folder since.
    """
    elsewhere = shared / "data" / _digest(str(asked.resolve()))
    if account is None:
        return asked
    if can_reach(account, asked / "data") and not (elsewhere / "data").exists():
        return asked
    make_passage(elsewhere)
    return elsewhere


def make_passage(folder: Path) -> None:
    """Make a folder, and let everyone pass through those this call makes, whatever the umask."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        path.chmod(0o711)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
