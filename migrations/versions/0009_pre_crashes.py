"""What is needed when processes die: suspected runs, dead letters that say why, and clients whose web process is gone.

Revision ID: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Both indexes of run hold runs that have crashed only: when they are built there is none.
UPGRADE = """
-- How long a suspect is to be alone in its process, and which process it was lost with.
ALTER TABLE run
    ADD COLUMN trial_seconds double precision,
    ADD COLUMN lost_owner text;
CREATE INDEX ix_run_suspect ON run (run_after) WHERE status = 'pending' AND trial_seconds IS NOT NULL;
CREATE INDEX ix_run_lost_owner ON run (lost_owner) WHERE lost_owner IS NOT NULL;

ALTER TABLE dead_letter
    ADD COLUMN assistant_id uuid,
    ADD COLUMN traceback text;
CREATE INDEX ix_dead_letter_created ON dead_letter (created_at);
CREATE INDEX ix_dead_letter_thread ON dead_letter (thread_id);

-- Runs that are to be cancelled when their client goes: until when a web process has vouched for the client. Without a
-- reference to run: that would lock rows which their workers write all the time.
CREATE TABLE presence (
    run_id uuid PRIMARY KEY,
    thread_id uuid NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    until timestamptz NOT NULL
);
CREATE INDEX ix_presence_until ON presence (until);
"""

DOWNGRADE = """
DROP TABLE presence;
DROP INDEX ix_dead_letter_thread;
DROP INDEX ix_dead_letter_created;
ALTER TABLE dead_letter
    DROP COLUMN traceback,
    DROP COLUMN assistant_id;
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
