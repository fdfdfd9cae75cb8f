"""What must never happen to a run, written down by Postgres while it happens, and counted afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg2

#: The run's audit, as in the sketch of the protocol; and each checkpoint against its thread's fence as it commits.
TRIGGERS = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid, thread_id uuid, old text, new text, fence bigint
);
CREATE FUNCTION audit_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> OLD.status THEN
        INSERT INTO audit (run_id, thread_id, old, new, fence)
        VALUES (OLD.run_id, OLD.thread_id, OLD.status, NEW.status, NEW.fence);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_run AFTER UPDATE OF status ON run FOR EACH ROW EXECUTE FUNCTION audit_run();

CREATE TABLE zombie (run_id uuid, fence bigint);
CREATE FUNCTION audit_checkpoint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO zombie
    SELECT NEW.run_id, NEW.fence FROM thread WHERE thread_id = NEW.thread_id AND fence > NEW.fence;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER audit_checkpoint AFTER INSERT ON checkpoint DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_checkpoint();
"""

VIOLATIONS = {
    "lost": "SELECT %(accepted)s - count(*) FROM run WHERE run_id = ANY(%(ids)s::uuid[])",
    "not ended": "SELECT count(*) FROM run WHERE status IN ('pending', 'running')",
    "ended twice": """
        SELECT count(*) FROM (
            SELECT run_id FROM audit WHERE new IN ('success', 'error', 'timeout', 'interrupted')
            GROUP BY run_id HAVING count(*) > 1) AS twice""",
    "overlapping": """
        SELECT count(*) FROM (
            SELECT old, new, lag(new) OVER w AS before, lag(run_id) OVER w AS last, run_id
              FROM audit
             WHERE old = 'running' OR new = 'running'
            WINDOW w AS (PARTITION BY thread_id ORDER BY id)) AS turns
         WHERE (new = 'running' AND before = 'running')
            OR (old = 'running' AND last <> run_id)""",
    "zombie writes": "SELECT count(*) FROM zombie",
    "fence went back": """
        SELECT count(*) FROM (
            SELECT fence, lag(fence) OVER (PARTITION BY thread_id ORDER BY id) AS before
              FROM audit WHERE new = 'running') AS claims
         WHERE fence <= before""",
}


def install(database_url: str) -> None:
    """Have a database of the test's own write down what happens."""
    with closing(psycopg2.connect(database_url)) as connection:
        connection.cursor().execute(TRIGGERS)
        connection.commit()


def violations(database_url: str, accepted: Sequence[str]) -> dict[str, int]:
    """How often each thing happened that must not; all are named."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        return {name: _count(cursor, query, accepted) for name, query in VIOLATIONS.items()}


def _count(cursor: Any, query: str, accepted: Sequence[str]) -> int:
    cursor.execute(query, {"ids": list(accepted), "accepted": len(accepted)})
    return int(cursor.fetchone()[0])
