"""The first words of a model go out while it speaks, even if it never waits for anything.

A local model, or one that answers from a cache, keeps the event loop to itself from its first word to its last, and
clients would see nothing before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

#: Turns of the event loop that a word needs through the queues of the graph: 8 to 12.
_TURNS = 16

Flush = Callable[[], Awaitable[object]]


class FirstWords(BaseCallbackHandler):
    """Holds a model up at its second word until the first is out. LangGraph hears of each word behind us."""

    run_inline = True
    ignore_agent = True
    ignore_chain = True
    ignore_chat_model = True
    ignore_custom_event = True
    ignore_retriever = True
    ignore_retry = True

    def __init__(self, flush: Flush) -> None:
        self._flush = flush
        self._words = 0

    @property
    def ignore_llm(self) -> bool:
        """Whether there is nothing left to do. In a thread of its own a model keeps nobody waiting."""
        return self._words >= 2 or asyncio._get_running_loop() is None

    async def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        self._words += 1
        if self._words == 2:
            for _turn in range(_TURNS):
                await asyncio.sleep(0)
            await self._flush()
