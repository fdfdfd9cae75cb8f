"""What is known of the worker processes: how many runs each can execute at once, and when it was last heard of.

Revision ID: 0012
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

UPGRADE = """
-- A row per process, written every few seconds; seen_at is not indexed, so that an update touches no index.
CREATE TABLE worker (
    owner text PRIMARY KEY,
    slots integer NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);
"""

DOWNGRADE = "DROP TABLE worker"


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
