"""The operator's own store, for a view's thread: it works on the process's loop, and its failures are told in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from langgraph.store.base import BaseStore, Op, Result

from trellis.domain.failures import describe
from trellis.errors import Invalid, NotSupported, StoreFailed, TrellisError
from trellis.runtime import Runtime
from trellis.telemetry import STORE_FAILED, log

#: How long it may take to answer, in seconds.
_PATIENCE_SECONDS = 30.0


class OwnStore(BaseStore):
    """The store that `store.path` names, asked from a thread."""

    def __init__(self, rt: Runtime, store: BaseStore) -> None:
        self._rt = rt
        self._store = store
        self.supports_ttl = store.supports_ttl
        self.ttl_config = store.ttl_config

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """
        Do what is asked for.

        :raises Invalid: the store can make nothing of it.
        :raises StoreFailed: it failed, or took too long.
        """
        return self._rt.on_loop(self.abatch(list(ops)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._store.abatch(ops)
        # The edge to the operator's code.
        except Exception as error:
            raise _told(error) from error


def _told(error: Exception) -> Exception:
    match error:
        case TrellisError():
            return error
        case NotImplementedError():
            message = describe(error)["message"]
            return NotSupported(f"The store of this server cannot do this. {message}".rstrip())
        case ValueError() | TypeError():
            told = describe(error)
            return Invalid(f"The store refuses this: {told['error']}: {told['message']}")
        case TimeoutError():
            return StoreFailed(f"took longer than {_PATIENCE_SECONDS:.0f} s")
    log().warning(STORE_FAILED, exc_info=error)
    return StoreFailed(f"raised {type(error).__name__}")
