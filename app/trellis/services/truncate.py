"""Empties a development server between the tests of a client's suite."""

from __future__ import annotations

from dataclasses import dataclass

from trellis.db import truncate as rows
from trellis.errors import NotSupported
from trellis.runtime import Runtime
from trellis.services.assistants import ensure_defaults


@dataclass(frozen=True, kw_only=True, slots=True)
class Kinds:
    """What is to be deleted."""

    runs: bool
    threads: bool
    assistants: bool
    store: bool
    checkpoints: bool


def truncate(rt: Runtime, tenant_id: str, kinds: Kinds) -> None:
    """
    Delete everything of some kinds, in one transaction. Every graph has its default assistant again afterwards.

    :raises NotSupported: the store is the operator's own.
    """
    if kinds.store and rt.manifest.store.path is not None:
        raise NotSupported('store: it is of your own ("store.path"), and only you can empty it.')
    with rt.engine.begin() as tx:
        thread_ids, running = rows.lock(tx, tenant_id)
        if kinds.runs or kinds.threads:
            rows.all_runs(tx, tenant_id)
        if kinds.threads:
            rows.threads(tx, thread_ids)
        elif kinds.checkpoints:
            rows.all_checkpoints(tx, tenant_id, thread_ids)
        if kinds.assistants:
            rows.assistants(tx, tenant_id)
        if kinds.store:
            rows.store(tx, tenant_id)
    if kinds.assistants:
        ensure_defaults(rt, tenant_id)
    if kinds.runs or kinds.threads:
        rt.signals(running)
