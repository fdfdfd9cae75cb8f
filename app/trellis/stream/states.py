"""Whether runs are over, asked of Postgres for many followers at once.

Each silent stream asks every few seconds. With thousands of them, a statement and a thread for each would cost the web
process most of its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from trellis.domain.runs import RunState

#: From the end of one look to the beginning of the next, in seconds.
_PAUSE_SECONDS = 0.05
_AT_ONCE = 1_000

#: Finds those of some runs that are not over. Blocks.
Look = Callable[[Sequence[str]], Mapping[str, RunState]]


class States:
    """One per process, used on its event loop only."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._asked: dict[str, asyncio.Future[RunState | None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._free_at = 0.0

    async def active(self, run_id: str) -> RunState | None:
        """
        How a run stands, looked up after this was asked. None: it is over, or there is none.

        Raises what the look raises.
        """
        loop = asyncio.get_running_loop()
        answer = self._asked.setdefault(run_id, loop.create_future())
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._answer())
        # Others may wait for the same answer when this one is cancelled.
        return await asyncio.shield(answer)

    async def _answer(self) -> None:
        loop = asyncio.get_running_loop()
        while self._asked:
            await asyncio.sleep(self._free_at - loop.time())
            ids = list(self._asked)[:_AT_ONCE]
            answers = {run_id: self._asked.pop(run_id) for run_id in ids}
            try:
                found = await asyncio.to_thread(self._look, ids)
            except Exception as error:
                for answer in answers.values():
                    answer.set_exception(error)
            else:
                for run_id, answer in answers.items():
                    answer.set_result(found.get(run_id))
            self._free_at = loop.time() + _PAUSE_SECONDS
