"""Rows of the webhook outbox: a trigger writes them in the transaction that ends a run, workers deliver them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from trellis.db import runs, threads
from trellis.db.checkpoints import Key, State, plain_values, plain_values_at
from trellis.db.engine import Tx
from trellis.db.queries import Row, execute, row
from trellis.db.vault import vault_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One attempt at telling somebody how a run ended."""

    webhook_id: int
    run_id: str
    url: str
    payload: Mapping[str, Any]  #: the run as it was when it ended, as it is stored
    attempt: int
    now: datetime  #: on the database's clock


def take(tx: Tx, *, limit: int, deadline_seconds: float) -> list[Delivery]:
    """Take what is due. Whatever is not reported within the deadline is due again."""
    params = {"limit": limit, "deadline": deadline_seconds}
    rows = execute(tx, "webhooks", "take", params).mappings().all()
    return [Delivery(**row) for row in rows]


def opened(engine: Engine, delivery: Delivery) -> Delivery:
    """
    The delivery as its receiver may read it.

    :raises Undecipherable: what is stored of its run does not open.
    """
    return replace(delivery, payload=runs.opened(vault_of(engine), delivery.payload))


def delivered(tx: Tx, delivery: Delivery) -> None:
    """The receiver has it."""
    execute(tx, "webhooks", "delivered", _reported(delivery))


def failed(tx: Tx, delivery: Delivery, *, error: str, pause_seconds: float | None) -> None:
    """Note why it failed, and when to try again; None means never."""
    params = {**_reported(delivery), "error": error, "pause": pause_seconds}
    execute(tx, "webhooks", "failed", params)


def _reported(delivery: Delivery) -> dict[str, Any]:
    return {
        "webhook_id": delivery.webhook_id,
        "attempt": delivery.attempt,
        "now": delivery.now,
    }


def find(tx: Tx, tenant_id: str, run_id: str) -> Row | None:
    """What became of a run's webhook. None: it had none, has not ended, or was told too long ago."""
    return row("webhooks", tx, "find", tenant_id=tenant_id, run_id=run_id)


def final_values(tx: Tx, payload: Mapping[str, Any]) -> Any:
    """The values with which a run ended. None for a stateless or rolled back one, or where nothing was saved."""
    if payload["kwargs"].get("temporary") or payload["status"] == "rollback":
        return None
    thread_id = payload["thread_id"]
    states = threads.states(tx, [thread_id])
    params = {"run_id": payload["run_id"], "thread_id": thread_id}
    checkpoint_id = execute(tx, "webhooks", "last_checkpoint", params).scalar()
    if checkpoint_id is None:
        return plain_values(tx, [thread_id], states=states).get(thread_id)
    state = states.get(thread_id, State())
    return plain_values_at(tx, Key(thread_id, "", checkpoint_id), state=state)


def sweep(tx: Tx, *, limit: int) -> int:
    """Forget what was delivered a week ago or given up a month ago. Returns how many."""
    return execute(tx, "webhooks", "sweep", {"limit": limit}).rowcount
