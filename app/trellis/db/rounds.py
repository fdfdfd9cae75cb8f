"""One round of the group commit: what many runs want from the database, in one transaction.

Order within a round, which makes it free of deadlocks: locks of the threads that finish (sorted, waiting),
then fences of the runs that write (sorted, waiting), then rows, then claims (skipping what is locked), then reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trellis.db import checkpoints, runs
from trellis.db.engine import Tx
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim, Outcome, Ward
from trellis.errors import Fenced


@dataclass(eq=False, kw_only=True, slots=True)
class Take:
    """Claim the head of a run's thread. Result: `Taken`, or None if there is nothing to do."""

    run_id: str
    owner: str
    lease_seconds: float
    ward: Ward = Ward.OPEN  #: take nothing of another
    graph_ids: Sequence[str] = ()  #: instead of the hinted run, the first in line of these
    among: Sequence[str] = ()  #: what an earlier try may have claimed instead
    claim_id: str = field(default_factory=new_id)
    retried: bool = False  #: a commit of this claim may have succeeded unseen
    tries: int = 0  #: how often its thread was found locked
    sent_at: float = 0.0  #: on our monotonic clock: the lease began later than that


@dataclass(eq=False, kw_only=True, slots=True)
class Write:
    """Checkpoint rows of a run, fenced."""

    claim: Claim
    rows: checkpoints.Rows


@dataclass(eq=False, kw_only=True, slots=True)
class Finish:
    """The end of an attempt, behind all its writes. Result: Finished."""

    claim: Claim
    outcome: Outcome


@dataclass(eq=False, kw_only=True, slots=True)
class Release:
    """Hand a run back. Result: the run to announce, or None if it was not ours any more."""

    claim: Claim


@dataclass(eq=False, kw_only=True, slots=True)
class Read:
    """Anything to be read, behind every earlier write of `claim`. Result: what the query returns."""

    query: Callable[[Tx], Any]
    claim: Claim | None = None


Item = Take | Write | Finish | Release | Read


@dataclass(frozen=True, slots=True)
class Taken:
    """A claimed run, and the latest checkpoint of its thread as it is stored (None: there is none)."""

    run: runs.Claimed
    latest: checkpoints.Stored | None
    sent_at: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The thread's next run, if there is one, and how the attempt ended: as proposed, or as somebody had asked."""

    following: runs.Pending | None
    outcome: Outcome


class Locked(Exception):
    """The thread was locked by somebody else for the moment: offer the claim again."""


class Round:
    """Executes items in one transaction; afterwards `results` holds a value or an exception for each."""

    def __init__(self, tx: Tx, items: Sequence[Item], *, cache: checkpoints.Cache) -> None:
        self.tx = tx
        self.cache = cache
        self.items = items
        self.results: dict[int, Any] = {}
        self._older: set[int] = set()
        self._held: set[str] = set()
        self._ended_before: set[str] = set()

    def execute(self) -> dict[int, Any]:
        """Do everything in the order that the rules ask for. Returns what came of each item, by its `id()`."""
        self._refuse_older()
        self._finish()
        self._hold()
        self._write()
        self._release()
        self._take()
        for item in self._of(Read):
            self.results[id(item)] = item.query(self.tx)
        return self.results

    def _of(self, kind: type[Any]) -> list[Any]:
        return [i for i in self.items if type(i) is kind and id(i) not in self._older]

    def _refuse_older(self) -> None:
        """
        Of two attempts at one run only the later can own it.

        A process that lost a lease may claim the run again itself, so both can be here; the statements below answer
        with runs, not with attempts, and would take the older one for the other.
        """
        owned = [item for item in self.items if isinstance(item, Write | Finish | Release)]
        newest: dict[str, int] = {}
        for item in owned:
            claim = item.claim
            newest[claim.run_id] = max(claim.fence, newest.get(claim.run_id, claim.fence))
        for item in owned:
            if item.claim.fence < newest[item.claim.run_id]:
                fenced = Fenced(f"run {item.claim.run_id} belongs to another attempt")
                self.results[id(item)] = None if isinstance(item, Release) else fenced
                self._older.add(id(item))

    def _finish(self) -> None:
        """First, because it takes thread locks; a finish also fences the writes of its own run."""
        items = self._of(Finish)
        if not items:
            return
        runs.lock_threads(self.tx, [item.claim.thread_id for item in items])
        won = runs.finish(self.tx, [(item.claim, item.outcome) for item in items])
        # Not again after a lost answer: another run may have changed the thread since.
        new = [
            (item.claim, won[item.claim.run_id].outcome)
            for item in items
            if item.claim.run_id in won and won[item.claim.run_id].is_new
        ]
        self._ended_before = won.keys() - {claim.run_id for claim, _ in new}
        nexts = runs.settle_threads(self.tx, new) if new else {}
        for item in items:
            ended = won.get(item.claim.run_id)
            fenced = Fenced(f"run {item.claim.run_id} belongs to another attempt")
            self.results[id(item)] = (
                Finished(nexts.get(item.claim.thread_id), ended.outcome) if ended else fenced
            )

    def _hold(self) -> None:
        """The runs whose writes count: finished in this very round, or still held by their claim. One lock for all."""
        finished = {
            item.claim.run_id
            for item in self._of(Finish)
            if not isinstance(self.results[id(item)], Fenced)
        }
        writes = {i.claim.run_id: i.claim for i in self._of(Write)}
        claims = writes | {i.claim.run_id: i.claim for i in self._of(Release)}
        claims = {run_id: claims[run_id] for run_id in claims.keys() - finished}
        held = runs.hold(self.tx, list(claims.values())) if claims else set()
        ahead = {i.claim.run_id for i in self._of(Write) if not i.rows.partial}
        if progressed := held & ahead:
            runs.mark_progress(self.tx, list(progressed))
        self._held = finished | held

    def _write(self) -> None:
        """
        What an attempt writes with an end that is in the tables already is not written.

        Its rows came with that end, if its answer was lost. Or a sweep ended the run as this attempt would have, and
        then another run of the thread may have begun.
        """
        items = self._of(Write)
        if not items:
            return
        undone = self._undone()
        rows = checkpoints.Rows()
        for item in items:
            if item.claim.run_id in self._held:
                if item.claim.run_id not in undone | self._ended_before:
                    rows.extend(item.rows)
                    rows.is_sealed |= item.rows.is_sealed
                self.results[id(item)] = None
            else:
                self.results[id(item)] = Fenced(
                    f"run {item.claim.run_id} belongs to another attempt"
                )
        checkpoints.insert(self.tx, rows)

    def _undone(self) -> set[str]:
        """The runs that were rolled back in this very round: what they still wrote goes with them."""
        ends = [(item, self.results[id(item)]) for item in self._of(Finish)]
        return {
            item.claim.run_id
            for item, end in ends
            if isinstance(end, Finished) and end.outcome.thread_status is None
        }

    def _release(self) -> None:
        """Behind the writes: the last superstep of a run that is handed back is in this round as a rule."""
        items = self._of(Release)
        if items:
            back = {p.run_id: p for p in runs.release(self.tx, [item.claim for item in items])}
            for item in items:
                self.results[id(item)] = back.get(item.claim.run_id)

    def _take(self) -> None:
        items = self._of(Take)
        if not items:
            return
        before = self._taken_before([item for item in items if item.retried])
        new = [item for item in items if item.claim_id not in before]
        for item in new:
            item.sent_at = time.monotonic()
        hints = {item.run_id: item.claim_id for item in new}
        claim = self._claim_foremost if items[0].graph_ids else self._claim
        claimed, locked = claim(hints, items) if hints else ([], False)
        stored = self._latest([*before.values(), *claimed])
        spare = iter(claimed)
        for item in items:
            run = before.get(item.claim_id) or next(spare, None)
            taken = Taken(run, stored.get(run.claim.thread_id), item.sent_at) if run else None
            self.results[id(item)] = Locked() if taken is None and locked else taken

    def _claim(
        self, hints: dict[str, str], items: Sequence[Take]
    ) -> tuple[list[runs.Claimed], bool]:
        first, among = items[0], list(hints)
        for item in items:
            # Which item's claim id a thread gets is left to chance.
            item.among = among
        return runs.claim(
            self.tx,
            hints,
            owner=first.owner,
            lease_seconds=first.lease_seconds,
            ward=first.ward,
        )

    def _claim_foremost(
        self, hints: dict[str, str], items: Sequence[Take]
    ) -> tuple[list[runs.Claimed], bool]:
        """Each hint for the next in line. Those that another process has taken meanwhile are made up for."""
        found = runs.foremost(self.tx, list(hints), graph_ids=items[0].graph_ids)
        claimed, _ = self._claim(dict(zip(found, hints.values(), strict=False)), items)
        return claimed, len(claimed) < len(found)

    def _taken_before(self, items: Sequence[Take]) -> dict[str, runs.Claimed]:
        if not items:
            return {}
        hints = {item.run_id: item.claim_id for item in items}
        among = {run_id for item in items for run_id in item.among}
        return runs.claimed_before(self.tx, hints, among=among)

    def _latest(self, claimed: Sequence[runs.Claimed]) -> dict[str, checkpoints.Stored | None]:
        """Read each thread's newest checkpoint with the claim: it saves the graph a round of its own."""
        if not claimed:
            return {}
        keys = [checkpoints.Key(run.claim.thread_id, "", None) for run in claimed]
        found = checkpoints.load(self.tx, keys, cache=self.cache)
        return {key.thread_id: stored for key, stored in zip(keys, found, strict=True)}
