"""Which of a tenant's things somebody may not touch: conditions, asked of the rows."""

from __future__ import annotations

from collections.abc import Sequence

from trellis.db import access
from trellis.db.access import Resource
from trellis.domain.access import Condition
from trellis.runtime import Runtime


def forbidden(
    rt: Runtime, tenant_id: str, resource: Resource, ids: Sequence[str], condition: Condition
) -> set[str]:
    """Those of these ids whose rows do not meet the condition."""
    with rt.autocommit.connect() as tx:
        return access.forbidden(tx, tenant_id, resource, ids, condition)


def hides_run(rt: Runtime, tenant_id: str, run_id: str, condition: Condition) -> bool:
    """Whether a run's thread does not meet the condition."""
    with rt.autocommit.connect() as tx:
        threads = access.threads_of(tx, tenant_id, [run_id])
        return bool(access.forbidden(tx, tenant_id, "threads", threads, condition))
