"""Indexes for sweeps of temporary threads, for the time of the last state, and for what assistants have.

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# One statement each, concurrently: runs go on while they are built. One that was interrupted is left invalid, so that
# IF NOT EXISTS would skip it: it is dropped first.
INDEXES = {
    "ix_thread_state_updated": "thread (tenant_id, state_updated_at, thread_id) WHERE NOT temporary",
    "ix_thread_temporary_expires": "thread (expires_at) WHERE temporary AND expires_at IS NOT NULL",
    "ix_assistant_metadata": "assistant USING gin (metadata jsonb_path_ops)",
    "ix_cron_assistant": "cron (assistant_id)",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # It waits for transactions that are under way, and blocks nobody meanwhile.
        op.execute("SET lock_timeout = 0")
        for name, definition in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
        op.execute("SET lock_timeout = '5s'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
