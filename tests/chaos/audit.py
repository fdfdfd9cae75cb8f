"""What must never happen to a run, written down by Postgres while it happens, and counted afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg2

#: Each change of a run's status; and each checkpoint, as it commits, against the claims that others have committed:
#: a worker may end a run, write its last rows and claim the thread's next run in one transaction.
TRIGGERS = """
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid, thread_id uuid, old text, new text, fence bigint,
    at timestamptz NOT NULL DEFAULT clock_timestamp(), xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ON audit (thread_id, fence) WHERE new = 'running';
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
    SELECT NEW.run_id, NEW.fence
     WHERE EXISTS (SELECT 1 FROM audit a
                    WHERE a.thread_id = NEW.thread_id AND a.new = 'running' AND a.fence > NEW.fence
                      AND a.xid <> pg_current_xact_id());
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
