"""What a process makes at its first use."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from trellis.runtime import Runtime


def test_registry__first_used_by_many_at_once(rt: Runtime) -> None:
    """Two would import the user's modules twice."""
    beginning = threading.Barrier(8)
    made = list[int]()
    rt.before_user_code = lambda: made.append(threading.get_ident())

    def use(_: int) -> int:
        beginning.wait()
        return id(rt.registry)

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(use, range(8)))

    assert (len(found), len(made)) == (1, 1)
