"""Crons that fire, with what each tick asks for; a log of the attempts at each webhook.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# The index on what is due leaves out crons that have ended: they stay in the table, and would be looked at for ever.
UPGRADE = """
ALTER TABLE cron
    ADD COLUMN run json NOT NULL,
    ADD COLUMN last_error text,
    ADD CONSTRAINT fk_cron_assistant FOREIGN KEY (assistant_id) REFERENCES assistant ON DELETE CASCADE;
DROP INDEX ix_cron_due;
CREATE INDEX ix_cron_due ON cron (next_run_at)
    WHERE enabled AND (end_time IS NULL OR next_run_at <= end_time);
CREATE INDEX ix_cron_tenant_created ON cron (tenant_id, created_at);
CREATE INDEX ix_cron_thread ON cron (thread_id) WHERE thread_id IS NOT NULL;

ALTER TABLE webhook_outbox ADD COLUMN log jsonb NOT NULL DEFAULT '[]';
"""

#: The run as clients see it, when it ended: with why it was cancelled, since they see that too.
PAYLOAD = """
CREATE OR REPLACE FUNCTION run_payload(ended run, status text) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'run_id', ended.run_id, 'thread_id', ended.thread_id, 'assistant_id', ended.assistant_id,
        'metadata', ended.metadata, 'status', status, 'kwargs', ended.kwargs,
        'multitask_strategy', ended.multitask_strategy, 'created_at', wire_time(ended.created_at),
        'updated_at', wire_time(ended.updated_at), 'langsmith_session_name', NULL,
        'cancel_reason', ended.cancel_reason,
        'run_started_at', wire_time(ended.started_at), 'run_ended_at', wire_time(ended.ended_at),
        'error', ended.error)
$$;
"""

DOWNGRADE = """
ALTER TABLE webhook_outbox DROP COLUMN log;
DROP INDEX ix_cron_thread;
DROP INDEX ix_cron_tenant_created;
DROP INDEX ix_cron_due;
CREATE INDEX ix_cron_due ON cron (next_run_at) WHERE enabled;
ALTER TABLE cron
    DROP CONSTRAINT fk_cron_assistant,
    DROP COLUMN last_error,
    DROP COLUMN run;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(PAYLOAD)


def downgrade() -> None:
    op.execute(DOWNGRADE)
    op.execute(PAYLOAD.replace("'cancel_reason', ended.cancel_reason,", ""))
