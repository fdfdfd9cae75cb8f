"""The threads of blocking nodes: nobody can end one, so those that outlive their attempt are counted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Threads beyond one for each slot.
SPARE = 8


class Asker(Protocol):
    """Who wants something done in a thread."""

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""


#: The attempt whose node asks for a thread.
asking: ContextVar[Asker | None] = ContextVar("asking", default=None)


class NodeThreads(ThreadPoolExecutor):
    """As many threads as there are slots, and some to spare."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots + SPARE, thread_name_prefix="node")
        self._working: dict[Future[Any], Asker] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = super().submit(fn, *args, **kwargs)
        if (asker := asking.get()) is not None:
            self._working[future] = asker
            future.add_done_callback(lambda done: self._working.pop(done, None))
        return future

    @property
    def stuck(self) -> int:
        """How many threads work for attempts that are over."""
        return sum(asker.over for asker in list(self._working.values()))
