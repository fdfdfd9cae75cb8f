"""Runs that are suspected of killing their workers: how long they are executed alone, and who they were lost with.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0006"
branch_labels = None
depends_on = None

# Both indexes hold runs that have crashed only, and building them on existing rows finds none.
UPGRADE = """
ALTER TABLE run
    ADD COLUMN trial_seconds double precision,
    ADD COLUMN lost_owner text;
CREATE INDEX ix_run_suspect ON run (run_after) WHERE status = 'pending' AND trial_seconds IS NOT NULL;
CREATE INDEX ix_run_lost_owner ON run (lost_owner) WHERE lost_owner IS NOT NULL;
"""

DOWNGRADE = """
DROP INDEX ix_run_lost_owner;
DROP INDEX ix_run_suspect;
ALTER TABLE run
    DROP COLUMN lost_owner,
    DROP COLUMN trial_seconds;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
