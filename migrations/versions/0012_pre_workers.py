"""What workers tell of themselves and of their graphs, and how many threads there are without counting them.

Revision ID: 0012
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Committed before anything is counted: from then on every change of the number of threads is written down. Safe to do
# again, should what follows fail.
COUNTING = """
CREATE TABLE IF NOT EXISTS thread_total (
    tenant_id text PRIMARY KEY,
    threads bigint NOT NULL
) WITH (fillfactor = 50);
-- What has changed since: added to the totals by the workers' sweep. Nobody waits for anybody to add a row.
CREATE TABLE IF NOT EXISTS thread_change (
    tenant_id text NOT NULL,
    change bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS ix_thread_change_tenant ON thread_change (tenant_id);

CREATE OR REPLACE FUNCTION count_thread() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM thread_change;
        DELETE FROM thread_total;
    END IF;
    IF TG_OP IN ('UPDATE', 'DELETE') AND NOT OLD.temporary THEN
        INSERT INTO thread_change VALUES (OLD.tenant_id, -1);
    END IF;
    IF TG_OP IN ('UPDATE', 'INSERT') AND NOT NEW.temporary THEN
        INSERT INTO thread_change VALUES (NEW.tenant_id, 1);
    END IF;
    RETURN NULL;
END $$;
-- Threads of stateless runs, which no client counts, cost nothing.
CREATE OR REPLACE TRIGGER count_thread_insert AFTER INSERT ON thread
    FOR EACH ROW WHEN (NOT NEW.temporary) EXECUTE FUNCTION count_thread();
CREATE OR REPLACE TRIGGER count_thread_delete AFTER DELETE ON thread
    FOR EACH ROW WHEN (NOT OLD.temporary) EXECUTE FUNCTION count_thread();
CREATE OR REPLACE TRIGGER count_thread_update AFTER UPDATE OF tenant_id, temporary ON thread
    FOR EACH ROW EXECUTE FUNCTION count_thread();
CREATE OR REPLACE TRIGGER count_thread_truncate AFTER TRUNCATE ON thread
    FOR EACH STATEMENT EXECUTE FUNCTION count_thread();
"""

# Threads that were there before, while others come and go: one snapshot shows both the threads and what is written down.
COUNT = """
INSERT INTO thread_change (tenant_id, change)
SELECT tenant_id, sum(n)
  FROM (SELECT tenant_id, count(*) AS n FROM thread WHERE NOT temporary GROUP BY tenant_id
         UNION ALL
        SELECT tenant_id, -sum(change) FROM thread_change GROUP BY tenant_id
         UNION ALL
        SELECT tenant_id, -threads FROM thread_total) AS every
 GROUP BY tenant_id
HAVING sum(n) <> 0
"""

UPGRADE = """
-- A row per process, written every few seconds; seen_at is not indexed, so that an update touches no index.
CREATE TABLE worker (
    owner text PRIMARY KEY,
    slots integer NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Apart from info, which is large, and of no use to whoever reads threads.
ALTER TABLE graph ADD COLUMN initial_values jsonb;
"""

DOWNGRADE = """
ALTER TABLE graph DROP COLUMN initial_values;
DROP TABLE worker;
DROP FUNCTION count_thread() CASCADE;
DROP TABLE thread_change, thread_total;
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(COUNTING)
        op.execute(COUNT)
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
