"""What an operator's own checkpointer still holds of checkpoints that are gone.

Revision ID: 0013
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE checkpoint_leftover (
    leftover_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread_id uuid NOT NULL,
    run_id uuid,
    attempt integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    last_error text
);
CREATE INDEX ix_checkpoint_leftover_due ON checkpoint_leftover (due_at);
CREATE INDEX ix_checkpoint_leftover_thread ON checkpoint_leftover (thread_id);
"""

DOWNGRADE = """
DROP TABLE checkpoint_leftover;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
