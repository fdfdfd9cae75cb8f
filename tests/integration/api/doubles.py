"""A double of the worker, and what its events look like to a client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Response

from trellis.api.bodies import AsyncBody
from trellis.db import runs
from trellis.dev.process import poll_until
from trellis.domain.access import DEFAULT_TENANT
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim, Outcome, RunStatus, ThreadStatus
from trellis.runtime import Runtime
from trellis.stream.writer import EventWriter

Event = tuple[str, Any, str | None]


@dataclass(kw_only=True)
class Worker:
    """Does by hand what a worker does by itself."""

    rt: Runtime
    writer: EventWriter
    on_loop: Callable[..., Any]

    def claim(self, run_id: str, *, resumable: bool = False) -> Claim:
        claim = self.claim_silently(run_id)
        self.begin(claim, resumable=resumable)
        return claim

    def claim_silently(self, run_id: str) -> Claim:
        """Claim a run in Postgres only: nobody is told."""
        with self.rt.engine.begin() as tx:
            [claimed], _ = runs.claim(tx, {run_id: new_id()}, owner="test", lease_seconds=60)
        return claimed.claim

    def begin(self, claim: Claim, *, resumable: bool = False) -> None:
        """Tell that an attempt has begun."""
        self.on_loop(self._start(claim, resumable))
        self.send(claim, "metadata", {"run_id": claim.run_id, "attempt": 1})

    async def _start(self, claim: Claim, resumable: bool) -> None:
        self.writer.start(claim, resumable=resumable, tenant_id=DEFAULT_TENANT, graph_id="echo")

    def send(self, claim: Claim, event: str, data: Any) -> None:
        self.on_loop(self._send(claim, event, data))

    async def _send(self, claim: Claim, event: str, data: Any) -> None:
        self.writer.send(claim, event, orjson.dumps(data))
        await self.writer.flush()

    def finish(self, claim: Claim, status: RunStatus = RunStatus.SUCCESS, **outcome: Any) -> None:
        """End a run in Postgres only: nobody is told."""
        end = Outcome(status=status, thread_status=ThreadStatus.IDLE, **outcome)
        with self.rt.engine.begin() as tx:
            assert set(runs.finish(tx, [(claim, end)])) == {claim.run_id}

    def end(self, claim: Claim, values: Any, status: RunStatus = RunStatus.SUCCESS) -> None:
        """End a run in Postgres, then tell."""
        self.finish(claim, status)
        self.on_loop(self._end(claim, status, orjson.dumps(values)))

    async def _end(self, claim: Claim, status: str, values: bytes) -> None:
        self.writer.end(claim, status, values)
        await self.writer.flush()


def parse(raw: bytes) -> list[Event]:
    """Events as (name, data, id). Comments are left out."""
    events: list[Event] = []
    for block in raw.decode().split("\r\n\r\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\r\n") if line and line[0] != ":"
        )
        if fields:
            events.append((fields["event"], orjson.loads(fields["data"]), fields.get("id")))
    return events


class Listener:
    """A client of an endless stream, which it reads on the loop until it hangs up."""

    def __init__(self, response: Response, on_loop: Callable[..., Any]) -> None:
        assert isinstance(response.response, AsyncBody)
        self.response = response
        self._body = response.response
        self._on_loop = on_loop
        self._heard: list[bytes] = []
        self.failure: BaseException | None = None
        self._task = on_loop(self._start())

    @property
    def heard(self) -> bytes:
        return b"".join(self._heard)

    @property
    def events(self) -> list[Event]:
        return parse(self.heard)

    def wait_for(self, count: int) -> list[Event]:
        """So many events, as soon as they are there."""
        self.wait_until(lambda: len(self.events) >= count)
        return self.events

    def wait_until(self, condition: Callable[[], bool]) -> None:
        found = poll_until(lambda: condition() or self._task.done(), seconds=20)
        assert condition(), f"{found=} {self.failure!r} {self.heard!r}"

    def wait_for_end(self) -> bytes:
        """Everything, when the stream has ended by itself."""
        self.wait_until(self._task.done)
        assert self.failure is None
        return self.heard

    def hang_up(self) -> None:
        self._on_loop(self._end())

    async def _start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for chunk in self._body.chunks:
                self._heard.append(chunk)
        except Exception as error:
            self.failure = error

    async def _end(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._body.aclose()
