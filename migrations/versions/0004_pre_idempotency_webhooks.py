"""Idempotency keys, and webhooks that the database itself puts into the outbox.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE = """
-- What the first request with a key was answered. The primary key makes concurrent ones wait for the first.
CREATE TABLE idempotency (
    tenant_id text NOT NULL DEFAULT 'default',
    key text COLLATE "C" NOT NULL,
    fingerprint text NOT NULL,
    answer json,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX ix_idempotency_created ON idempotency (created_at);

-- A column besides kwargs: whether a run has one is asked at every end, and kwargs may be megabytes.
ALTER TABLE run ADD COLUMN webhook text;

ALTER TABLE webhook_outbox ADD COLUMN given_up_at timestamptz;
DROP INDEX ix_webhook_outbox_due;
CREATE INDEX ix_webhook_outbox_due ON webhook_outbox (next_attempt_at)
    WHERE delivered_at IS NULL AND given_up_at IS NULL;
CREATE INDEX ix_webhook_outbox_created ON webhook_outbox (created_at);

CREATE FUNCTION wire_time(at timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
$$;

-- The run as clients see it, as it was when it ended: the row may be gone when this is delivered.
CREATE FUNCTION run_payload(ended run, status text) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'run_id', ended.run_id, 'thread_id', ended.thread_id, 'assistant_id', ended.assistant_id,
        'metadata', ended.metadata, 'status', status, 'kwargs', ended.kwargs,
        'multitask_strategy', ended.multitask_strategy, 'created_at', wire_time(ended.created_at),
        'updated_at', wire_time(ended.updated_at), 'langsmith_session_name', NULL,
        'run_started_at', wire_time(ended.started_at), 'run_ended_at', wire_time(ended.ended_at),
        'error', ended.error)
$$;

-- Whoever ends a run, its webhook is in the outbox when that commits, and is not when it does not.
CREATE FUNCTION run_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_outbox (tenant_id, run_id, url, payload)
    VALUES (NEW.tenant_id, NEW.run_id, NEW.webhook, run_payload(NEW, NEW.status))
        ON CONFLICT (run_id) DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER run_notify AFTER UPDATE OF status ON run
    FOR EACH ROW
    WHEN (NEW.webhook IS NOT NULL AND NEW.status IN ('success', 'error', 'timeout', 'interrupted')
          AND OLD.status IN ('pending', 'running'))
    EXECUTE FUNCTION run_notify();

-- A run that is rolled back is deleted, before or after it got a status of its own.
CREATE FUNCTION run_notify_rollback() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    OLD.ended_at := coalesce(OLD.ended_at, clock_timestamp());
    INSERT INTO webhook_outbox (tenant_id, run_id, url, payload)
    VALUES (OLD.tenant_id, OLD.run_id, OLD.webhook, run_payload(OLD, 'rollback'))
        ON CONFLICT (run_id) DO UPDATE SET payload = excluded.payload;
    RETURN NULL;
END $$;
CREATE TRIGGER run_notify_rollback AFTER DELETE ON run
    FOR EACH ROW
    WHEN (OLD.webhook IS NOT NULL AND OLD.cancel_action = 'rollback')
    EXECUTE FUNCTION run_notify_rollback();
"""

DOWNGRADE = """
DROP TRIGGER run_notify_rollback ON run;
DROP TRIGGER run_notify ON run;
DROP FUNCTION run_notify_rollback();
DROP FUNCTION run_notify();
DROP FUNCTION run_payload(run, text);
DROP FUNCTION wire_time(timestamptz);
DROP INDEX ix_webhook_outbox_created;
DROP INDEX ix_webhook_outbox_due;
CREATE INDEX ix_webhook_outbox_due ON webhook_outbox (next_attempt_at) WHERE delivered_at IS NULL;
ALTER TABLE webhook_outbox DROP COLUMN given_up_at;
ALTER TABLE run DROP COLUMN webhook;
DROP TABLE idempotency;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
