"""One attempt at one run: claim → prepare → drive → decide → finish → tell. Runs on the process's event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import orjson
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from trellis.db import runs
from trellis.db.checkpoints import Key
from trellis.db.checkpoints.saver import Saver
from trellis.db.rounds import Finish, Finished, Release, Take, Taken
from trellis.db.runs import Claimed, Pending
from trellis.db.serde import serializer
from trellis.db.state_types import state_types
from trellis.db.vault import Vault
from trellis.db.writer import FencedBackend
from trellis.domain.access import Principal, caller
from trellis.domain.encryption import context as encryption_context
from trellis.domain.multitask import Action, ended_by
from trellis.domain.runs import Claim, Outcome, RunStatus, ThreadStatus, Ward
from trellis.errors import EncryptionFailed, Fenced, TrellisError, Unavailable
from trellis.stream import encoder
from trellis.telemetry import (
    PROCESS_STUCK,
    RUN_ABANDONED,
    RUN_BROKEN,
    RUN_CLAIMED,
    RUN_FENCED,
    RUN_FINISHED,
    RUN_LOST,
    RUN_RELEASED,
    RUN_UNREADABLE,
    log,
)
from trellis_workers import driver, outcome, protocol
from trellis_workers.host import Host
from trellis_workers.resumption import ResumptionSaver, new_own_saver
from trellis_workers.threads import SPARE, asking

#: How long a graph that was cancelled may still take to clean up, in seconds. Then its run ends without it.
_GRACE_SECONDS = 5.0
#: How long a model may be held up until its first word is out, in seconds.
_FLUSH_SECONDS = 0.25


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False, slots=True)
class Attempt:
    """An attempt while it runs: what others need to stop it."""

    run: Claimed
    control: RunControl = field(default_factory=RunControl)
    task: asyncio.Task[Any] | None = None
    lost: bool = False
    action: Action | None = None  #: how somebody asked it to end
    over: bool = False  #: nothing that the graph still says counts
    values: Any = None  #: the state after the last step
    stopped: asyncio.Future[None] = field(default_factory=_future)
    began_at: float = field(default_factory=time.monotonic)

    @property
    def is_on_trial(self) -> bool:
        """Whether it is to be alone in its process still."""
        trial = self.run.trial_seconds
        return trial is not None and time.monotonic() < self.began_at + trial

    def see(self, values: Any) -> None:
        self.values = values

    def lose(self) -> None:
        """The lease is gone: stop the graph, write nothing more. On the loop."""
        self.lost = True
        self._stop()

    def end(self, action: Action) -> None:
        """Somebody asked for the end of the run: stop the graph. On the loop."""
        self.action = action
        self._stop()

    def _stop(self) -> None:
        if not self.stopped.done():
            self.stopped.set_result(None)


class Executor:
    """Executes runs for the slots of a process, and knows which are executing."""

    def __init__(self, host: Host, *, worn: Callable[[], None], ward: Ward = Ward.OPEN) -> None:
        """`worn` is called when another process should take this one's place: it has executed enough, or is stuck."""
        self._ward = ward
        self._host = host
        is_ordered = host.rt.priority is not None and ward is Ward.OPEN
        self._ordered = tuple(host.manifest.graphs) if is_ordered else ()
        self._worn = worn
        self._executed = 0
        self._executing = 0
        self.attempts: set[Attempt] = set()
        #: Graphs that went on when they were cancelled: their runs are over, they still use up this process.
        self.zombies: set[asyncio.Task[Any]] = set()
        self._heard_at = 0.0
        # A process that starts may stand in for one that died.
        self._bereft_at = time.monotonic()

    def heard(self) -> None:
        """A hint came in: the broker works, and there is no need to look into Postgres just now."""
        self._heard_at = time.monotonic()

    @property
    def silence_seconds(self) -> float:
        """How long no hint has come in."""
        return time.monotonic() - self._heard_at

    def bereave(self) -> None:
        """Another process died: the hints that it had taken from the broker are gone."""
        self._bereft_at = time.monotonic()

    @property
    def bereft_seconds(self) -> float:
        """How long ago hints may have been lost with a process."""
        return time.monotonic() - self._bereft_at

    @property
    def is_busy(self) -> bool:
        """Whether a run is being claimed or executed."""
        return self._executing > 0

    @property
    def is_trying(self) -> bool:
        """Whether a run is being claimed, or is to be alone still."""
        attempts = list(self.attempts)
        return self._executing > len(attempts) or any(a.is_on_trial for a in attempts)

    async def execute(self, run_id: str, graph_id: str) -> None:
        """Claim the hinted run's thread and work it off, one run after the other. A stale hint does nothing."""
        due: Pending | None = Pending(run_id=run_id, graph_id=graph_id)
        self._executing += 1
        try:
            while due is not None and not self._host.draining.is_set():
                due = await self._next(due)
                if self._ward is not Ward.OPEN:
                    break
        except Exception:
            # Whoever started us may not look at how it ended.
            log().error(RUN_BROKEN, run_id=run_id, exc_info=True)
            due = None
        finally:
            self._executing -= 1
        if due is not None:
            # Draining, or not for a quarantine: somebody else's now.
            self._host.announcer(due.run_id, due.graph_id)

    async def _next(self, due: Pending) -> Pending | None:
        """Claim a run and attempt it. Returns the one that is due then."""
        taken = await self._claim(due.run_id)
        if taken is None:
            return None
        if self._host.draining.is_set():
            # SIGTERM came while the claim was on its way (race 33).
            return await self._release(taken.run)
        following = await self._attempt(taken)
        self._count()
        return following

    def _count(self) -> None:
        self._executed += 1
        if self._executed == self._host.settings.worker_max_runs:
            self._worn()

    async def _claim(self, run_id: str) -> Taken | None:
        lease = self._host.lease.duration.total_seconds()
        take = Take(
            run_id=run_id,
            owner=self._host.owner,
            lease_seconds=lease,
            ward=self._ward,
            graph_ids=self._ordered,
        )
        taken: Taken | None = await self._host.writer.do(take)
        return taken

    async def _opened(self, taken: Taken) -> Taken | None:
        """The run as its graph may read it. None: the operator's handlers failed, and so has the run."""
        vault, run = self._host.rt.vault, taken.run
        encryption_context.set({})
        open_ = partial(vault.open_by_hand, run.kwargs, "run", run.claim.run_id, "kwargs")
        try:
            kwargs = await asyncio.to_thread(open_) if vault.handlers else open_()
        except TrellisError as error:
            log().error(RUN_UNREADABLE, run_id=run.claim.run_id, error=str(error))
            await self._record_as(run.claim, outcome.of_exception(error))
            return None
        # For whatever the run stores, and its end.
        encryption_context.set(kwargs.get("encryption_context") or {})
        return replace(taken, run=replace(run, kwargs=kwargs))

    async def _attempt(self, taken: Taken) -> Pending | None:
        """One attempt under its lease. Returns the thread's next run."""
        attempt = Attempt(taken.run)
        claim = taken.run.claim
        host = self._host
        log().info(
            RUN_CLAIMED, run_id=claim.run_id, attempt=claim.attempt, graph=taken.run.graph_id
        )
        self.attempts.add(attempt)
        host.keeper.hold(
            claim,
            since=taken.sent_at,
            lose=lambda: _on_loop(host, attempt.lose),
            end=lambda action: _on_loop(host, partial(attempt.end, action)),
        )
        try:
            return await self._begin(attempt, taken)
        finally:
            attempt.over = True
            host.keeper.let_go(claim)
            host.writer.forget(claim)
            host.events.leave(claim)
            self.attempts.discard(attempt)

    async def _begin(self, attempt: Attempt, taken: Taken) -> Pending | None:
        opened = await self._opened(taken)
        if opened is None:
            return None
        attempt.run = opened.run
        try:
            self._tell_begin(opened.run)
        except Exception as error:
            log().error(RUN_BROKEN, run_id=opened.run.claim.run_id, exc_info=True)
            ended = driver.Driven(outcome.of_exception(error), None)
            return await self._finish(attempt, ended, seconds=0)
        return await self._run(attempt, opened)

    def _tell_begin(self, run: Claimed) -> None:
        events = self._host.events
        events.start(
            run.claim,
            resumable=run.kwargs["resumable"],
            # Nobody follows the thread of a stateless run.
            tenant_id=None if run.kwargs["temporary"] else run.tenant_id,
            graph_id=run.graph_id,
        )
        events.send(run.claim, "metadata", _metadata(run))
        if ids := driver.answered_ids(run):
            events.send(run.claim, "input.answered", encoder.dumps({"interrupt_ids": ids}))

    async def _run(self, attempt: Attempt, taken: Taken) -> Pending | None:
        started = time.monotonic()
        attempt.task = asyncio.ensure_future(self._drive(attempt, taken))
        try:
            ended = await self._ended(attempt)
        except GraphDrained:
            return await self._give_back(attempt)
        if ended is None:
            return None
        return await self._finish(attempt, ended, seconds=time.monotonic() - started)

    async def _ended(self, attempt: Attempt) -> driver.Driven | None:
        """How the graph ended. None means the claim is lost, and what the graph did does not count."""
        assert attempt.task is not None
        if await self._until_stopped(attempt):
            await self._halt(attempt)
            if attempt.lost:
                log().warning(RUN_LOST, run_id=attempt.run.claim.run_id)
                return None
            return driver.Driven(ended_by(attempt.action or Action.TIMEOUT, None), attempt.values)
        try:
            driven: driver.Driven = attempt.task.result()
            return driven
        except asyncio.CancelledError as error:
            return self._cancelled(attempt, error)
        except GraphDrained:
            raise
        except Fenced:
            return None
        # The graph's own, whatever it derives from: exits, groups of exits, timeouts of other frameworks.
        except BaseException as error:
            return driver.Driven(outcome.of_exception(error), None)

    async def _until_stopped(self, attempt: Attempt) -> bool:
        """Wait for the graph. True: its end was asked for before it came, or its time is up."""
        assert attempt.task is not None
        await asyncio.wait(
            {attempt.task, attempt.stopped},
            timeout=attempt.run.seconds_left,
            return_when=asyncio.FIRST_COMPLETED,
        )
        return not attempt.task.done()

    async def _halt(self, attempt: Attempt) -> None:
        """Cancel the graph. One that does not end in time is left to itself: whatever it writes is fenced."""
        task = attempt.task
        assert task is not None
        task.cancel()
        await asyncio.wait({task}, timeout=_GRACE_SECONDS)
        attempt.over = True
        if not task.done():
            log().warning(RUN_ABANDONED, run_id=attempt.run.claim.run_id, grace=_GRACE_SECONDS)
            self.zombies.add(task)
        task.add_done_callback(partial(self._forget, attempt.run.claim))
        stuck = len(self.zombies) + self._host.node_threads.stuck
        if stuck >= SPARE:
            # Soon no run would find a thread.
            log().warning(PROCESS_STUCK, nodes=stuck)
            self._worn()

    def _forget(self, claim: Claim, task: asyncio.Task[Any]) -> None:
        """Take note of how a cancelled graph ended, so that nobody complains that nobody did."""
        self.zombies.discard(task)
        self._host.writer.forget(claim)
        if not task.cancelled():
            task.exception()

    def _cancelled(self, attempt: Attempt, error: BaseException) -> driver.Driven | None:
        """Ours, because the process drains; or a node's own, which is a failure."""
        if attempt.control.drain_requested:
            raise GraphDrained("shutdown")
        return driver.Driven(outcome.of_exception(error), None)

    async def _drive(self, attempt: Attempt, taken: Taken) -> driver.Driven:
        host, run = self._host, attempt.run
        claim, events = run.claim, host.events
        # Clients that its nodes make work on the data of the same tenant.
        caller.set(Principal(tenant_id=run.tenant_id))
        asking.set(attempt)
        config = driver.client_config(run)
        store = host.store(run.tenant_id, partial(runs.fence, claim=claim))

        is_compact = protocol.is_asked(config)

        def send(name: str, data: Any) -> None:
            if not attempt.over:
                events.send(claim, name, encoder.dumps(data, compact=is_compact))

        opened = host.registry.open(
            run.graph_id,
            config=config,
            context=run.kwargs["context"],
            access_context="threads.create_run",
            user=config["configurable"].get("langgraph_auth_user"),
            store=store,
        )
        async with opened as graph:
            saver = self._saver(taken, graph)
            equipped = driver.equip(graph, run, saver=saver, store=store)
            try:
                return await driver.drive(
                    equipped,
                    run,
                    head=taken.latest,
                    send=send,
                    seen=attempt.see,
                    control=attempt.control,
                    flush=partial(events.flush, _FLUSH_SECONDS),
                )
            except asyncio.CancelledError:
                if attempt.control.drain_requested and attempt.action is None:
                    # Somewhere inside a superstep: the next attempt does it again from where this one began.
                    saver.forget()
                raise
            finally:
                saver.flush()

    def _saver(self, taken: Taken, graph: Any) -> Saver:
        host, run = self._host, taken.run
        serde = host.serdes.get(run.graph_id)
        if serde is None:
            serde = serializer(state_types(graph) | host.registry.trusted)
            host.serdes[run.graph_id] = serde
        return self._new_saver(run)(
            FencedBackend(host.writer, run.claim),
            serde=serde,
            cache=host.cache,
            durability=run.kwargs["durability"],
            preloaded={Key(run.claim.thread_id, "", None): taken.latest},
        )

    def _new_saver(self, run: Claimed) -> Callable[..., Saver]:
        contents, continues = self._host.rt.contents, driver.continues(run)
        if contents is not None:
            return new_own_saver(run, contents, continues=continues)
        return partial(ResumptionSaver, run=run) if continues else partial(Saver, claim=run.claim)

    async def _finish(
        self, attempt: Attempt, driven: driver.Driven, *, seconds: float
    ) -> Pending | None:
        """Record the end behind all writes of the attempt; only then tell the client."""
        claim, ended = attempt.run.claim, driven.outcome
        try:
            finished = await self._record(attempt, ended)
        except Fenced:
            log().warning(RUN_FENCED, run_id=claim.run_id)
            return None
        except Unavailable:
            log().warning(RUN_LOST, run_id=claim.run_id)
            return None
        ended = finished.outcome
        self._tell(attempt.run, ended, driven.values)
        if attempt.run.kwargs["webhook"]:
            self._host.deliverer.wake()
        log().info(
            RUN_FINISHED, run_id=claim.run_id, status=str(ended.status), ms=round(seconds * 1000)
        )
        return finished.following

    async def _record(self, attempt: Attempt, ended: Outcome) -> Finished:
        """Finish; if the attempt's writes failed it has not succeeded, whatever the graph says."""
        claim, writer = attempt.run.claim, self._host.writer
        try:
            return await self._record_as(claim, ended)
        except (Fenced, Unavailable):
            raise
        except Exception as error:
            writer.forget(claim)
            return await self._record_as(claim, outcome.of_exception(error))

    async def _record_as(self, claim: Claim, ended: Outcome) -> Finished:
        kept = await self._sealed(ended)
        finished: Finished = await self._host.writer.do(Finish(claim=claim, outcome=kept))
        return replace(finished, outcome=ended) if finished.outcome is kept else finished

    async def _sealed(self, ended: Outcome) -> Outcome:
        """The end as the operator's handlers want it stored. Where they fail, what would show is left out."""
        vault = self._host.rt.vault
        if vault.handlers is None:
            return ended
        try:
            return await asyncio.to_thread(_by_hand, vault, ended)
        except EncryptionFailed as error:
            failed = outcome.of_exception(error)
            return replace(failed, traceback=None)

    def _tell(self, run: Claimed, ended: Outcome, values: Any) -> None:
        events = self._host.events
        if ended.status == RunStatus.ERROR:
            events.send(run.claim, "error", encoder.dumps(ended.error))
            values = {"__error__": ended.error}
        elif ended.status == RunStatus.INTERRUPTED:
            # What is left of it is for Postgres to say: the graph may have gone further than what counts.
            values = None
        payload = None if values is None else encoder.dumps(values)
        is_paused = ended.thread_status == ThreadStatus.INTERRUPTED
        events.end(run.claim, str(ended.status), payload, is_paused=is_paused)

    async def _give_back(self, attempt: Attempt) -> Pending | None:
        """Draining: hand the run to whoever comes next, unless it was asked to end."""
        back = await self._release(attempt.run)
        if back is not None:
            return back
        asked = driver.Driven(ended_by(Action.INTERRUPT, None), None)
        return await self._finish(attempt, asked, seconds=0)

    async def _release(self, run: Claimed) -> Pending | None:
        """Draining: hand the run to whoever comes next, from its last superstep on."""
        back: Pending | None = await self._host.writer.do(Release(claim=run.claim))
        if back is not None:
            log().info(RUN_RELEASED, run_id=back.run_id)
        return back


def _by_hand(vault: Vault, ended: Outcome) -> Outcome:
    told = {"traceback": ended.traceback} if ended.traceback else None
    traceback = vault.seal_by_hand(told, model="run", field="traceback")
    return replace(
        ended,
        error=vault.seal_by_hand(ended.error, model="run", field="error"),
        interrupts=vault.seal_by_hand(ended.interrupts, model="thread", field="interrupts"),
        traceback=orjson.dumps(traceback).decode() if traceback else None,
    )


def _on_loop(host: Host, call: Callable[[], None]) -> None:
    host.loop.call_soon_threadsafe(call)


def _metadata(run: Claimed) -> bytes:
    """The first event of each attempt."""
    return encoder.dumps({"run_id": run.claim.run_id, "attempt": run.claim.attempt})
