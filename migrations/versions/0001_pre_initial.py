"""Threads, runs, checkpoints, store, assistants, crons, outbox and dead letters.

Revision ID: 0001
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE graph (
    graph_id text PRIMARY KEY,
    description text,
    state_channels jsonb,
    info jsonb,
    load_error text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE assistant (
    assistant_id uuid PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    config jsonb NOT NULL DEFAULT '{}',
    context jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ix_assistant_tenant_created ON assistant (tenant_id, created_at);

CREATE TABLE assistant_version (
    assistant_id uuid NOT NULL REFERENCES assistant ON DELETE CASCADE,
    version integer NOT NULL,
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    config jsonb NOT NULL DEFAULT '{}',
    context jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (assistant_id, version)
);

-- fence is the thread's generation: +1 per claim, never lowered. A write that shows an older one is refused.
CREATE TABLE thread (
    thread_id uuid PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    status text NOT NULL DEFAULT 'idle',
    fence bigint NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}',
    config jsonb NOT NULL DEFAULT '{}',
    interrupts json NOT NULL DEFAULT '{}',
    error jsonb,
    temporary boolean NOT NULL DEFAULT false,
    ttl_strategy text,
    ttl_minutes double precision,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_thread_status CHECK (status IN ('idle', 'busy', 'interrupted', 'error')),
    CONSTRAINT ck_thread_ttl_strategy CHECK (ttl_strategy IN ('delete', 'keep_latest'))
) WITH (fillfactor = 80);
CREATE INDEX ix_thread_expires ON thread (expires_at) WHERE expires_at IS NOT NULL;

-- No index on lease_expires_at and room on each page: a heartbeat is a HOT update.
CREATE TABLE run (
    run_id uuid PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    thread_id uuid NOT NULL REFERENCES thread ON DELETE CASCADE,
    tenant_id text NOT NULL DEFAULT 'default',
    assistant_id uuid NOT NULL,
    graph_id text NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    multitask_strategy text NOT NULL DEFAULT 'enqueue',
    metadata jsonb NOT NULL DEFAULT '{}',
    kwargs json NOT NULL,
    kwargs_version smallint NOT NULL DEFAULT 1,
    queue text NOT NULL DEFAULT 'runs',
    priority smallint NOT NULL DEFAULT 0,
    run_after timestamptz NOT NULL DEFAULT clock_timestamp(),
    timeout_seconds double precision,
    deadline_at timestamptz,
    attempt integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    max_crashes integer NOT NULL DEFAULT 3,
    has_progress boolean NOT NULL DEFAULT false,
    fence bigint,
    lease_owner text,
    claim_id uuid,
    lease_expires_at timestamptz,
    cancel_action text,
    cancel_reason text,
    cancel_requested_at timestamptz,
    hinted_at timestamptz,
    idempotency_key text,
    idempotency_fingerprint text,
    start_checkpoint_id text,
    cron_id uuid,
    cron_tick timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz,
    error jsonb,
    CONSTRAINT ck_run_status
        CHECK (status IN ('pending', 'running', 'success', 'error', 'timeout', 'interrupted')),
    CONSTRAINT ck_run_multitask_strategy
        CHECK (multitask_strategy IN ('enqueue', 'reject', 'interrupt', 'rollback')),
    CONSTRAINT ck_run_cancel_action CHECK (cancel_action IN ('interrupt', 'rollback', 'timeout')),
    CONSTRAINT ck_run_lease_while_running CHECK ((status = 'running') = (lease_expires_at IS NOT NULL)),
    CONSTRAINT ck_run_ended_when_terminal CHECK ((status IN ('pending', 'running')) = (ended_at IS NULL))
) WITH (fillfactor = 70);
-- At most one run of a thread runs: a constraint, not code.
CREATE UNIQUE INDEX uq_run_one_running_per_thread ON run (thread_id) WHERE status = 'running';
CREATE INDEX ix_run_active ON run (thread_id, seq) WHERE status IN ('pending', 'running');
CREATE INDEX ix_run_pending_due ON run (run_after) WHERE status = 'pending';
CREATE INDEX ix_run_thread ON run (thread_id, seq);
CREATE UNIQUE INDEX uq_run_idempotency_key ON run (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX uq_run_cron_tick ON run (cron_id, cron_tick) WHERE cron_id IS NOT NULL;

CREATE FUNCTION run_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> NEW.status AND OLD.status IN ('success', 'error', 'timeout', 'interrupted') THEN
        RAISE EXCEPTION 'the terminal status of run % is final (% -> %)', OLD.run_id, OLD.status, NEW.status
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER run_guard BEFORE UPDATE OF status ON run
    FOR EACH ROW EXECUTE FUNCTION run_guard();

-- A checkpoint without its channel values, which are rows of checkpoint_blob by channel and version.
CREATE TABLE checkpoint (
    thread_id uuid NOT NULL,
    checkpoint_ns text COLLATE "C" NOT NULL DEFAULT '',
    checkpoint_id text COLLATE "C" NOT NULL,
    parent_checkpoint_id text COLLATE "C",
    run_id uuid,
    fence bigint,
    body bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
);
CREATE INDEX ix_checkpoint_run ON checkpoint (run_id);

-- base_version: this row holds only what was appended to the list of that version.
CREATE TABLE checkpoint_blob (
    thread_id uuid NOT NULL,
    checkpoint_ns text COLLATE "C" NOT NULL DEFAULT '',
    channel text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    type text NOT NULL,
    base_version text COLLATE "C",
    data bytea NOT NULL,
    PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
);

CREATE TABLE checkpoint_write (
    thread_id uuid NOT NULL,
    checkpoint_ns text COLLATE "C" NOT NULL DEFAULT '',
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    idx integer NOT NULL,
    channel text NOT NULL,
    type text NOT NULL,
    data bytea NOT NULL,
    task_path text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);

CREATE TABLE store_item (
    tenant_id text NOT NULL DEFAULT 'default',
    namespace text[] COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value jsonb NOT NULL,
    ttl_minutes double precision,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, namespace, key)
);
CREATE INDEX ix_store_item_expires ON store_item (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE cron (
    cron_id uuid PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    assistant_id uuid NOT NULL,
    thread_id uuid REFERENCES thread ON DELETE CASCADE,
    schedule text NOT NULL,
    timezone text,
    end_time timestamptz,
    next_run_at timestamptz,
    enabled boolean NOT NULL DEFAULT true,
    on_run_completed text,
    metadata jsonb NOT NULL DEFAULT '{}',
    payload json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ix_cron_due ON cron (next_run_at) WHERE enabled;

CREATE TABLE webhook_outbox (
    webhook_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    run_id uuid NOT NULL UNIQUE,
    url text NOT NULL,
    payload json NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ix_webhook_outbox_due ON webhook_outbox (next_attempt_at) WHERE delivered_at IS NULL;

CREATE TABLE dead_letter (
    run_id uuid PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    thread_id uuid NOT NULL,
    graph_id text NOT NULL,
    kwargs json NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    last_error jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""

DOWNGRADE = """
DROP TABLE dead_letter, webhook_outbox, cron, store_item, checkpoint_write, checkpoint_blob, checkpoint, run, thread,
    assistant_version, assistant, graph;
DROP FUNCTION run_guard();
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
