"""Conditions on metadata as SQL, and the question whether a row meets one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, column, func, literal, or_, select, table, true
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.types import Text

from trellis.db.engine import Tx
from trellis.db.vault import vault_of
from trellis.domain.access import AllOf, AnyOf, Condition, Contains, Equals, keys_of

#: The resources whose rows have metadata.
Resource = Literal["threads", "assistants", "crons"]


def _table(name: str, key: str) -> Any:
    columns = (column(key, UUID(as_uuid=False)), column("tenant_id", Text))
    return table(name, *columns, column("metadata", JSONB))


_TABLES = {
    "threads": (_table("thread", "thread_id"), "thread_id"),
    "assistants": (_table("assistant", "assistant_id"), "assistant_id"),
    "crons": (_table("cron", "cron_id"), "cron_id"),
}
_RUN = table(
    "run",
    column("run_id", UUID(as_uuid=False)),
    column("thread_id", UUID(as_uuid=False)),
    column("tenant_id", Text),
)


def check_readable(
    tx: Tx, resource: Resource, metadata: Mapping[str, Any], condition: Condition | None
) -> None:
    """:raises Invalid: Postgres cannot tell who meets this, for it looks at values that are encrypted."""
    looked_at = {**dict.fromkeys(keys_of(condition), "?"), **metadata}
    vault_of(tx).check_search(looked_at, model=resource.removesuffix("s"))


def meets(metadata: Any, condition: Condition | None) -> ColumnElement[bool]:
    """The condition on a JSONB column, as containment wherever an index can serve it. None: no condition."""
    match condition:
        case None:
            return true()
        case AllOf(parts):
            return and_(true(), *(meets(metadata, part) for part in parts))
        case AnyOf(parts):
            return or_(~true(), *(meets(metadata, part) for part in parts))
        case Contains(key, values):
            contained: ColumnElement[bool] = metadata.contains({key: list(values)})
            return contained
        case Equals(key, value):
            return _equals(metadata, key, value)


def _equals(metadata: Any, key: str, value: Any) -> ColumnElement[bool]:
    contained: ColumnElement[bool] = metadata.contains({key: value})
    # A list or an object contains more than what it equals; null is not what is missing.
    if isinstance(value, dict | list | tuple):
        return and_(contained, func.jsonb_extract_path(metadata, key) == literal(value, JSONB))
    return contained


def forbidden(
    tx: Tx, tenant_id: str, resource: Resource, ids: Iterable[str], condition: Condition
) -> set[str]:
    """Those of the tenant's rows that do not meet the condition. Ids without a row are not among them."""
    check_readable(tx, resource, {}, condition)
    rows, key = _TABLES[resource]
    statement = select(rows.c[key]).where(
        rows.c[key].in_(list(ids)),
        rows.c.tenant_id == tenant_id,
        ~meets(rows.c.metadata, condition),
    )
    return set(tx.execute(statement).scalars())


def threads_of(tx: Tx, tenant_id: str, run_ids: Sequence[str]) -> set[str]:
    """The threads of runs."""
    statement = select(_RUN.c.thread_id).where(
        _RUN.c.run_id.in_(list(run_ids)), _RUN.c.tenant_id == tenant_id
    )
    return set(tx.execute(statement).scalars())
