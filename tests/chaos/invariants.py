"""What must hold after any run of anything, counted from the record that the audit triggers kept. All zero is good."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

One = Callable[..., Any]

TERMINAL = "('success', 'error', 'timeout', 'interrupted')"


def violations(one: One, accepted: Iterable[str]) -> dict[str, int]:
    """The five of the fault table, by name."""
    accepted = list(accepted)
    present = one("SELECT count(*) FROM run WHERE run_id = ANY(%(ids)s::uuid[])", ids=accepted)
    return {
        "lost": len(accepted) - present,
        "ended_twice": one(
            f"SELECT count(*) FROM (SELECT run_id FROM audit WHERE became IN {TERMINAL}"
            " GROUP BY run_id HAVING count(*) > 1) AS twice"
        ),
        "overlapping": overlapping(one),
        "zombie_writes": one("SELECT count(*) FROM zombie_write"),
        "not_ended": one("SELECT count(*) FROM run WHERE status IN ('pending', 'running')"),
    }


def overlapping(one: One) -> int:
    """How often a run began while another one of its thread was running."""
    count: int = one(
        """
        SELECT count(*)
          FROM (SELECT became, lag(became) OVER (PARTITION BY thread_id ORDER BY id) AS before
                  FROM audit
                 WHERE became = 'running' OR was = 'running') AS changes
         WHERE became = 'running' AND before = 'running'
        """
    )
    return count


def fences_out_of_order(one: One) -> int:
    count: int = one(
        """
        SELECT count(*)
          FROM (SELECT fence, lag(fence) OVER (PARTITION BY thread_id ORDER BY id) AS before
                  FROM audit
                 WHERE became = 'running') AS claims
         WHERE fence <= before
        """
    )
    return count


def untold_webhooks(one: One) -> int:
    """Runs whose end and outbox disagree."""
    count: int = one(
        """
        SELECT count(*)
          FROM run
          LEFT JOIN webhook_outbox AS o USING (run_id)
         WHERE (run.webhook IS NULL) <> (o.run_id IS NULL)
            OR o.payload ->> 'status' <> run.status
        """
    )
    return count
