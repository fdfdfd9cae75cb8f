"""When to look again at a cron whose tick could be neither fired nor passed over.

Revision ID: 0015
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Null: as soon as it is due.
    op.execute("ALTER TABLE cron ADD COLUMN look_at timestamptz")


def downgrade() -> None:
    op.execute("ALTER TABLE cron DROP COLUMN look_at")
