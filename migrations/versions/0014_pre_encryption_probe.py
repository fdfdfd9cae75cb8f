"""Which key encrypts, so that a process with another one does not start.

Revision ID: 0014
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UPGRADE = """
-- One row at most: something that whoever has the key can decrypt. None: no key encrypts.
CREATE TABLE encryption_probe (
    only_one boolean PRIMARY KEY DEFAULT true CONSTRAINT ck_encryption_probe_only_one CHECK (only_one),
    probe bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute("DROP TABLE encryption_probe")
