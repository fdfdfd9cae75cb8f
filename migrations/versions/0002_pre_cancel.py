"""What a rollback needs: whose a write is and what it replaced, and what a thread was before it became busy.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Without an index on run_id: a rollback knows the thread, by which the primary key begins.
UPGRADE = """
ALTER TABLE thread
    ADD COLUMN rest_status text NOT NULL DEFAULT 'idle',
    ADD CONSTRAINT ck_thread_rest_status CHECK (rest_status IN ('idle', 'interrupted', 'error')) NOT VALID;

ALTER TABLE checkpoint_write
    ADD COLUMN run_id uuid,
    ADD COLUMN replaced_run_id uuid,
    ADD COLUMN replaced_type text,
    ADD COLUMN replaced_data bytea;
"""

DOWNGRADE = """
ALTER TABLE checkpoint_write
    DROP COLUMN run_id,
    DROP COLUMN replaced_run_id,
    DROP COLUMN replaced_type,
    DROP COLUMN replaced_data;
ALTER TABLE thread
    DROP COLUMN rest_status;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
