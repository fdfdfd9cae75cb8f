"""Enters what user code has made: an awaitable, a context manager, or the thing itself."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any


def is_generator(value: object) -> bool:
    """Whether it is a generator function, which is a context manager once it is decorated as one."""
    return inspect.isasyncgenfunction(value) or inspect.isgeneratorfunction(value)


async def enter(made: Any, stack: AsyncExitStack) -> Any:
    """What is behind it; what had to be entered is left with the stack."""
    if inspect.isawaitable(made):
        made = await made
    if hasattr(made, "__aenter__"):
        return await stack.enter_async_context(made)
    if hasattr(made, "__enter__"):
        entered = await in_thread(made.__enter__)
        stack.push_async_exit(lambda *raised: in_thread(lambda: made.__exit__(*raised)))
        return entered
    return made


async def in_thread(function: Callable[[], Any]) -> Any:
    """Call what may block."""
    return await asyncio.to_thread(_without_stop_iteration, function)


def _without_stop_iteration(function: Callable[[], Any]) -> Any:
    # A future cannot carry StopIteration: whoever awaits it would wait for ever (Python < 3.12).
    try:
        return function()
    except StopIteration as error:
        raise RuntimeError("the factory raised StopIteration") from error
