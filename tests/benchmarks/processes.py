"""CPU and memory of whole process trees, by kind of process."""

from collections.abc import Callable, Mapping, Sequence

import psutil

Roots = Mapping[str, Sequence[int]]


def parse_roots(text: str) -> dict[str, list[int]]:
    """
    Read `web=12,worker=34+56`.

    :raises ValueError: a part is not `kind=pid`.
    """
    roots: dict[str, list[int]] = {}
    for part in filter(None, text.split(",")):
        kind, equals, pids = part.partition("=")
        if not (kind and equals and pids):
            raise ValueError(f"{part!r} is not kind=pid, as in web=12,worker=34+56")
        roots[kind] = [int(pid) for pid in pids.split("+")]
    return roots


def tree(pid: int) -> list[psutil.Process]:
    """List a process and its descendants; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(roots: Roots) -> dict[str, float]:
    """Sum the CPU time used so far, including that of children which have ended."""
    return _sums(roots, _cpu_of)


def memory_bytes(roots: Roots) -> dict[str, float]:
    """Sum the memory held, each shared page counted by its share (PSS)."""
    return _sums(roots, _memory_of)


def resident_bytes(roots: Roots) -> dict[str, float]:
    """Sum the resident memory, shared pages counted in every process (RSS)."""
    return _sums(roots, lambda process: float(process.memory_info().rss))


def used_between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """
    Subtract two sums, kind by kind.

    Never below zero: a child that ends before its parent has waited for it takes its time along.
    """
    return {kind: max(0.0, used - before.get(kind, 0.0)) for kind, used in after.items()}


def _sums(roots: Roots, of: Callable[[psutil.Process], float]) -> dict[str, float]:
    return {kind: sum(_sum(pid, of) for pid in pids) for kind, pids in roots.items()}


def _sum(pid: int, of: Callable[[psutil.Process], float]) -> float:
    total = 0.0
    for process in tree(pid):
        try:
            total += of(process)
        except psutil.NoSuchProcess:
            continue
    return total


def _cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + ended)


def _memory_of(process: psutil.Process) -> float:
    try:
        full = process.memory_full_info()
    except psutil.AccessDenied:
        full = process.memory_info()
    return float(getattr(full, "pss", 0) or full.rss)
