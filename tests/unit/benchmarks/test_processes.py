"""CPU and memory of process trees, on real processes."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.processes import (
    cpu_seconds,
    memory_bytes,
    parse_roots,
    resident_bytes,
    tree,
    used_between,
)

#: Burns CPU, holds memory, says so, and stays until its input ends.
CHILD = """
import sys, time
held = bytearray(b"x" * 30_000_000)
while time.process_time() < 0.3:
    sum(range(1000))
print("ready", flush=True)
sys.stdin.read()
"""
#: Has the child end at the first line of input, and stays until its own input ends.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
sys.stdin.readline()
child.communicate()
print("ended", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.communicate(b"\n")


def test_tree(family):
    assert len(tree(family.pid)) == 2


def test_cpu_seconds__counts_the_child(family):
    assert cpu_seconds({"worker": [family.pid]})["worker"] >= 0.3


def test_cpu_seconds__counts_a_child_that_has_ended(family):
    family.stdin.write(b"\n")
    family.stdin.flush()
    assert family.stdout.readline() == b"ended\n"

    assert len(tree(family.pid)) == 1
    assert cpu_seconds({"worker": [family.pid]})["worker"] >= 0.3


def test_memory_bytes__counts_the_child(family):
    assert memory_bytes({"worker": [family.pid]})["worker"] > 30_000_000


def test_resident_bytes__is_not_below_the_share(family):
    roots = {"worker": [family.pid]}

    assert resident_bytes(roots)["worker"] >= memory_bytes(roots)["worker"]


def test_cpu_seconds__keeps_the_kinds_apart(family):
    used = cpu_seconds({"worker": [family.pid], "web": []})

    assert used["web"] == 0
    assert used["worker"] > 0


def test_cpu_seconds__of_a_process_that_is_gone():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()

    assert cpu_seconds({"worker": [process.pid]}) == {"worker": 0}


def test_used_between():
    used = used_between({"web": 1.0, "worker": 4.0}, {"web": 1.5, "worker": 3.0, "postgres": 2.0})

    assert used == {"web": 0.5, "worker": 0.0, "postgres": 2.0}


def test_parse_roots():
    assert parse_roots("web=12,worker=34+56") == {"web": [12], "worker": [34, 56]}


@pytest.mark.parametrize("text", ["web", "web=", "=12", "web=x"])
def test_parse_roots__nonsense(text):
    with pytest.raises(ValueError, match=r"kind=pid|invalid literal"):
        parse_roots(text)
