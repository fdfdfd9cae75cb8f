"""Priorities: what a hook has decided for a thread, and where its runs stand in line.

Revision ID: 0011
"""

from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None

# They are committed before the index is begun, which may be interrupted: then all of this is done again.
COLUMNS = """
-- Null: no hook has decided yet.
ALTER TABLE thread ADD COLUMN IF NOT EXISTS priority smallint;
-- Null: in line by run_after, as a run without priority.
ALTER TABLE run ADD COLUMN IF NOT EXISTS rank_at timestamptz;
"""
INDEX = "ix_run_rank ON run (rank_at) WHERE status = 'pending' AND rank_at IS NOT NULL"


def upgrade() -> None:
    op.execute(COLUMNS)
    with op.get_context().autocommit_block():
        # It waits for transactions that are under way, and blocks nobody meanwhile.
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_run_rank")
        op.execute(f"CREATE INDEX CONCURRENTLY {INDEX}")
        op.execute("SET lock_timeout = '5s'")


def downgrade() -> None:
    op.execute("ALTER TABLE run DROP COLUMN rank_at; ALTER TABLE thread DROP COLUMN priority")
