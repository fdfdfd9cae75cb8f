"""What workers tell of themselves and of their graphs: how many runs each can execute, and what a state begins with.

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

-- Apart from info, which is large, and of no use to whoever reads threads.
ALTER TABLE graph ADD COLUMN initial_values jsonb;
"""

DOWNGRADE = """
ALTER TABLE graph DROP COLUMN initial_values;
DROP TABLE worker;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
