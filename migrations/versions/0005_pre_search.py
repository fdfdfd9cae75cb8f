"""Indexes for what clients search by.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE INDEX ix_thread_metadata ON thread USING gin (metadata jsonb_path_ops) WHERE NOT temporary;
CREATE INDEX ix_thread_created ON thread (tenant_id, created_at, thread_id) WHERE NOT temporary;
CREATE INDEX ix_thread_updated ON thread (tenant_id, updated_at, thread_id) WHERE NOT temporary;
CREATE INDEX ix_thread_status ON thread (tenant_id, status, created_at, thread_id)
 WHERE NOT temporary AND status <> 'idle';
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(
        "DROP INDEX ix_thread_metadata, ix_thread_created, ix_thread_updated, ix_thread_status"
    )
