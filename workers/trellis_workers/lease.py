"""Keep the leases of a process's runs: one thread, one connection of its own, one statement for all runs.

A renewal also tells whether somebody asked for the end of a run. A signal (trellis.dispatch.signals) only makes it
happen at once, so that there is one way by which a cancel reaches a run, with and without Redis.

A loop that is blocked by a node, or a database thread that is busy, never costs a lease. A run whose lease is
lost is stopped; so is one that could not be renewed in time, before anybody else may start it (race 17).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from trellis.db import runs
from trellis.domain.multitask import Action
from trellis.domain.runs import Claim, Lease
from trellis.processes import VitalThread
from trellis.telemetry import LEASE_LATE, log

#: How long a signal is remembered for a claim whose answer is still on its way.
_SIGNAL_SECONDS = 5.0


@dataclass(eq=False, slots=True)
class _Held:
    claim: Claim
    lose: Callable[[], None]
    end: Callable[[Action], None]
    renewed_at: float
    told: bool = False


class Keeper:
    """
    Renews what it holds until it is let go.

    `lose` of a claim is called once, from the keeper's thread, when it is lost; `end`, when its end was asked for.
    """

    def __init__(self, engine: Engine, lease: Lease) -> None:
        self._engine = engine
        self._lease = lease
        self._held: dict[tuple[str, int], _Held] = {}
        self._signals: dict[str, float] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._threads = [
            VitalThread(self._keep, name="lease"),
            VitalThread(self._watch, name="lease-watch"),
        ]
        for thread in self._threads:
            thread.start()

    def hold(
        self,
        claim: Claim,
        *,
        since: float,
        lose: Callable[[], None],
        end: Callable[[Action], None],
    ) -> None:
        """Keep this claim, sent for at `since`: a blocked loop may have had its answer for long."""
        self._held[(claim.run_id, claim.fence)] = _Held(claim, lose, end, renewed_at=since)
        # The signal may have been faster than the answer to the claim.
        if claim.run_id in self._signals:
            self._wake.set()

    def look(self, run_id: str) -> None:
        """Renew at once if this run is held: somebody asked for its end."""
        now = time.monotonic()
        self._signals = {
            old: at for old, at in self._signals.items() if now - at < _SIGNAL_SECONDS
        } | {run_id: now}
        if any(held == run_id for held, _ in list(self._held)):
            self._wake.set()

    def let_go(self, claim: Claim) -> None:
        self._held.pop((claim.run_id, claim.fence), None)

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def _keep(self) -> None:
        every = self._lease.renew_every.total_seconds()
        pause = every
        while not self._stop.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            held = list(self._held.values())
            pause = every if not held or self._renew(held) else 1.0

    def _watch(self) -> None:
        """Apart from the renewals, because a statement on a half-open connection blocks for seconds."""
        while not self._stop.wait(0.5):
            self._drop_late(list(self._held.values()))

    def _renew(self, held: list[_Held]) -> bool:
        """The time counts from before the statement is sent: the database may have counted from then."""
        sent = time.monotonic()
        claims = [item.claim for item in held]
        try:
            with self._engine.begin() as tx:
                kept = runs.renew(tx, claims, lease_seconds=self._lease.duration.total_seconds())
        except Exception as error:
            log().warning(LEASE_LATE, runs=len(held), error=str(error).split("\n")[0])
            return False
        # Two attempts at one run can be here, after a lease was lost and the run was claimed again: the later holds.
        newest = {c.run_id: c.fence for c in sorted(claims, key=lambda claim: claim.fence)}
        for item in held:
            if item.claim.run_id in kept and item.claim.fence == newest[item.claim.run_id]:
                item.renewed_at = sent
                self._tell(item, kept[item.claim.run_id])
            else:
                self._drop(item)
        return True

    def _tell(self, item: _Held, action: str | None) -> None:
        if action is not None and not item.told:
            item.told = True
            item.end(Action(action))

    def _drop_late(self, held: list[_Held]) -> None:
        trusted = (self._lease.duration - self._lease.margin).total_seconds()
        now = time.monotonic()
        for item in held:
            if now - item.renewed_at > trusted:
                self._drop(item)

    def _drop(self, item: _Held) -> None:
        if self._held.pop((item.claim.run_id, item.claim.fence), None):
            item.lose()
