"""Following a thread: where a client begins, and what Postgres adds to what Redis tells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from trellis.db import access, feeds
from trellis.db import runs as run_rows
from trellis.db.engine import Tx
from trellis.domain import places
from trellis.domain.access import Condition
from trellis.domain.places import END, START, Place
from trellis.domain.runs import RunState
from trellis.runtime import Runtime
from trellis.services import runs, threads
from trellis.stream import encoder
from trellis.stream.claims import Attempt, changed
from trellis.stream.feed import Ask, Start

#: Runs of a thread that are replayed at most, and those between a claim and its loss that are noticed.
_NEWEST = 200


def start(rt: Runtime, tenant_id: str, thread_id: str, *, after: Place | None) -> Start | None:
    """
    Where a client begins that stopped at a place; None: one that wants what happens from now on.

    A place that the thread has not reached is of another thread or server, and says nothing. None is returned if
    there is no such thread.
    """
    with rt.autocommit.connect() as tx:
        fence = feeds.fence(tx, tenant_id, thread_id)
        if fence is None:
            return None
        replays = after is not None and after.fence <= fence
        place = after if after is not None and replays else START
        kept = rt.settings.stream_ttl_seconds if replays else 0
        due = _attempts(tx, tenant_id, thread_id, after=place, kept_seconds=kept)
    if place != START:
        due = _with_change(due, fence, known=place.fence)
    fence = max([fence, *(each.fence for each in due)])
    return Start(fence=fence, place=place, due=due, after="0" if replays else "$")


def settled(rt: Runtime, tenant_id: str, thread_id: str) -> int:
    """
    The sequence number that no event exceeds of the thread's runs that are over; 0 if none is.

    Whatever is yet to happen has a higher one, and so have the events of a run that goes on: a client may have had
    none of them.
    """
    with rt.autocommit.connect() as tx:
        fence = feeds.over(tx, tenant_id, thread_id, limit=_NEWEST)
    return places.seq(*Place(fence, END)) if fence else 0


def asking(rt: Runtime, tenant_id: str, thread_id: str, *, allowed: Condition | None) -> Ask:
    """What a follower asks Postgres; nothing is there for one who may not see the thread."""

    def later(fence: int) -> Sequence[Attempt]:
        with rt.autocommit.connect() as tx:
            kept = rt.settings.stream_ttl_seconds
            now = feeds.fence(tx, tenant_id, thread_id) or 0
            after = Place(fence, END)
            begun = _attempts(tx, tenant_id, thread_id, after=after, kept_seconds=kept)
        return _with_change(begun, now, known=fence)

    def is_visible(attempt: Attempt) -> bool:
        with rt.autocommit.connect() as tx:
            if not _is_of(tx, tenant_id, thread_id, attempt):
                return False
            return allowed is None or not access.forbidden(
                tx, tenant_id, "threads", [thread_id], allowed
            )

    async def state(run_id: str) -> RunState | None:
        return await runs.state_later(rt, run_id)

    async def attempts(fence: int) -> Sequence[Attempt]:
        return await asyncio.to_thread(later, fence)

    async def visible(attempt: Attempt) -> bool:
        return await asyncio.to_thread(is_visible, attempt)

    return Ask(state=state, attempts=attempts, visible=visible)


def _is_of(tx: Tx, tenant_id: str, thread_id: str, attempt: Attempt) -> bool:
    """Whether an attempt was made on a thread as it is now: one that was deleted and made anew counts from one again."""
    run = run_rows.state(tx, attempt.run_id) if attempt.run_id else None
    if run is not None:
        return bool(run["thread_id"] == thread_id)
    # By hand, or of a run that has been rolled back.
    return attempt.fence <= (feeds.fence(tx, tenant_id, thread_id) or 0)


def final(rt: Runtime, tenant_id: str, thread_id: str, run_id: str) -> bytes:
    """
    What stands for events of a run that were lost: values or error as JSON, read from Postgres.

    Values mean nothing to whoever asked for a run without them: null.
    """
    told = runs.final_values(rt, run_id, thread_id)
    if told.startswith(b'{"__error__":'):
        return told
    with rt.autocommit.connect() as tx:
        run = run_rows.get(tx, tenant_id, thread_id, run_id)
    return told if run is not None and "values" in run["kwargs"]["stream_mode"] else b"null"


def is_paused(rt: Runtime, tenant_id: str, thread_id: str, run_id: str) -> bool:
    """Whether a thread waits at a node, and it was this run that left it there."""
    with rt.autocommit.connect() as tx:
        return feeds.is_paused(tx, tenant_id, thread_id, run_id)


def state(rt: Runtime, thread_id: str) -> bytes:
    """The values of a thread's state as JSON."""
    return encoder.dumps(threads.values(rt, [thread_id]).get(thread_id))


def _with_change(begun: Sequence[Attempt], fence: int, *, known: int) -> Sequence[Attempt]:
    """The attempts, and a change by hand if the thread's generation is younger than all of them."""
    newest = max([known, *(each.fence for each in begun)])
    return [*begun, changed(fence)] if fence > newest else begun


def _attempts(
    tx: Tx, tenant_id: str, thread_id: str, *, after: Place, kept_seconds: float
) -> Sequence[Attempt]:
    """
    The attempts to tell of: those whose log is kept, and for one who stopped somewhere that one and the newest.

    Where others are left out, the state says what they did.
    """
    # A run is not told of again to whoever has had its end.
    since = after.fence + (after == Place(after.fence, END))
    rows = feeds.attempts(
        tx, tenant_id, thread_id, since=since, kept_seconds=kept_seconds, limit=_NEWEST
    )
    has_stopped = after != START
    misses = has_stopped and len(rows) == _NEWEST and rows[0]["fence"] > since
    found: list[Attempt] = []
    for row in rows:
        is_meant = row["fence"] == after.fence or row is rows[-1]
        is_due = row["is_kept"] or (has_stopped and is_meant)
        if is_due:
            named = row["fence"], row["run_id"], row["graph_id"], row["is_over"]
            found.append(Attempt(*named, follows_gap=misses))
        misses = has_stopped and not is_due
    return found
