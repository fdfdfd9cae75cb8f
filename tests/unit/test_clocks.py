"""No host's clock decides anything: times of day come from Postgres, durations from the monotonic clock."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import trellis
import trellis_workers

#: What reads the time of day, by its last two names.
READERS = {
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
}
#: An id begins with the time, to be near its neighbours in an index; an event of protocol v2 says when it was told, to
#: whom it may concern. Nothing is read from either.
ALLOWED = {"trellis/domain/ids.py", "trellis/api/protocol_streams.py"}

ROOTS = [Path(package.__path__[0]).parent for package in (trellis, trellis_workers)]


def reads_of(source: str) -> list[str]:
    """The calls in a module that read the host's time of day."""
    called = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [ast.unparse(function).split(".")[-2:] for function in called]
    return [".".join(name) for name in names if ".".join(name) in READERS]


def modules() -> Iterator[tuple[str, str]]:
    for root in ROOTS:
        for package in ("trellis", "trellis_workers"):
            for path in sorted((root / package).rglob("*.py")):
                yield str(path.relative_to(root)), path.read_text()


def test_no_module_reads_the_time_of_day() -> None:
    found = {name: reads_of(source) for name, source in modules() if not is_dev(name)}

    assert len(found) > 100
    assert {name: reads for name, reads in found.items() if reads}.keys() == ALLOWED


def is_dev(name: str) -> bool:
    """`trellis dev` speaks to a person at one machine."""
    return name.startswith("trellis/dev/")


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("import time\ntime.time()", ["time.time"]),
        ("import datetime\ndatetime.datetime.now(tz)", ["datetime.now"]),
        ("time.monotonic()", []),
    ],
)
def test_reads_of(source: str, reads: list[str]) -> None:
    assert reads_of(source) == reads


def test_no_statement_takes_the_time_of_its_transaction() -> None:
    """now() stands still in a transaction that waits for a lock; a lease would be shorter than it is."""
    [root] = [root for root in ROOTS if (root / "trellis").is_dir()]
    files = sorted((root / "trellis/db/sql").glob("*.sql"))
    taken = re.compile(r"\bnow\(\)|current_(timestamp|date|time)\b|localtime", re.IGNORECASE)

    assert len(files) > 3
    assert [path.name for path in files if taken.search(path.read_text())] == []
