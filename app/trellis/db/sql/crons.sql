-- name: hold_assistant
-- So that it is still there when the cron that names it is written.
SELECT 1
  FROM assistant
 WHERE assistant_id = %(assistant_id)s::uuid
   AND tenant_id = %(tenant_id)s
   FOR KEY SHARE

-- name: hold_thread
SELECT 1
  FROM thread
 WHERE thread_id = %(thread_id)s::uuid
   AND tenant_id = %(tenant_id)s
   AND NOT temporary
   FOR KEY SHARE

-- name: now
SELECT clock_timestamp() AS now

-- name: insert
INSERT INTO cron (cron_id, tenant_id, assistant_id, thread_id, schedule, timezone, end_time, next_run_at, enabled,
                  on_run_completed, metadata, payload, run, created_at, updated_at)
VALUES (%(cron_id)s::uuid, %(tenant_id)s, %(assistant_id)s::uuid, %(thread_id)s::uuid, %(schedule)s, %(timezone)s,
        %(end_time)s::timestamptz, %(next_run_at)s::timestamptz, %(enabled)s, %(on_run_completed)s,
        %(metadata)s::jsonb, %(payload)s::json, %(run)s::json, %(now)s::timestamptz, %(now)s::timestamptz)
RETURNING cron_id::text, assistant_id::text, thread_id::text, schedule, timezone, next_run_at, enabled,
          on_run_completed, metadata, payload, created_at, updated_at,
          coalesce(run #>> '{user,identity}', '') AS user_id

-- name: get
SELECT cron_id::text, assistant_id::text, thread_id::text, schedule, timezone, next_run_at, enabled, on_run_completed,
       metadata, payload, created_at, updated_at, tenant_id, run, coalesce(run #>> '{user,identity}', '') AS user_id
  FROM cron
 WHERE cron_id = %(cron_id)s::uuid
   AND tenant_id = %(tenant_id)s

-- name: lock
-- A cron to be changed. Whoever fires it waits for the change, or has fired it before.
SELECT schedule, timezone, end_time, next_run_at, enabled, updated_at, clock_timestamp() AS now
  FROM cron
 WHERE cron_id = %(cron_id)s::uuid
   AND tenant_id = %(tenant_id)s
   FOR UPDATE

-- name: update
UPDATE cron
   SET schedule = %(schedule)s,
       timezone = %(timezone)s,
       end_time = %(end_time)s::timestamptz,
       next_run_at = %(next_run_at)s::timestamptz,
       enabled = %(enabled)s,
       on_run_completed = %(on_run_completed)s,
       metadata = %(metadata)s::jsonb,
       payload = %(payload)s::json,
       run = %(run)s::json,
       last_error = NULL,
       look_at = NULL,
       updated_at = clock_timestamp()
 WHERE cron_id = %(cron_id)s::uuid
   AND tenant_id = %(tenant_id)s
RETURNING cron_id::text, assistant_id::text, thread_id::text, schedule, timezone, next_run_at, enabled,
          on_run_completed, metadata, payload, created_at, updated_at,
          coalesce(run #>> '{user,identity}', '') AS user_id

-- name: delete
DELETE FROM cron
 WHERE cron_id = %(cron_id)s::uuid
   AND tenant_id = %(tenant_id)s

-- name: due
-- The clock is read once, in a subquery: the condition then is one of the index, and crons that are not due cost
-- nothing.
SELECT cron_id::text, thread_id::text, updated_at
  FROM cron
 WHERE enabled
   AND (end_time IS NULL OR next_run_at <= end_time)
   AND next_run_at <= (SELECT clock_timestamp())
   AND (look_at IS NULL OR look_at <= (SELECT clock_timestamp()))
 ORDER BY next_run_at
 LIMIT %(limit)s

-- name: take_thread
-- Thread, then cron, and never wait: a thread is deleted in this order too. One that is locked is offered again.
SELECT 1
  FROM thread
 WHERE thread_id = %(thread_id)s::uuid
   FOR UPDATE SKIP LOCKED

-- name: due_one
SELECT cron_id::text, tenant_id, thread_id::text, schedule, timezone, end_time, next_run_at, enabled, metadata, run,
       updated_at
  FROM cron
 WHERE cron_id = %(cron_id)s::uuid
   AND enabled
   AND (end_time IS NULL OR next_run_at <= end_time)
   AND next_run_at <= clock_timestamp()
   AND (look_at IS NULL OR look_at <= clock_timestamp())

-- name: take
-- Re-checked under the lock: of two that found it due, the second finds it fired (race 32), and neither fires what
-- somebody has changed meanwhile. What is due stays due.
SELECT clock_timestamp() AS now
  FROM cron
 WHERE cron_id = %(cron_id)s::uuid
   AND enabled
   AND next_run_at = %(next_run_at)s::timestamptz
   AND updated_at = %(updated_at)s::timestamptz
   FOR UPDATE SKIP LOCKED

-- name: stamp
-- Whose run it is, and for which tick: there cannot be a second.
UPDATE run
   SET cron_id = %(cron_id)s::uuid,
       cron_tick = %(tick)s::timestamptz
 WHERE run_id = %(run_id)s::uuid

-- name: advance
UPDATE cron
   SET next_run_at = %(next_run_at)s::timestamptz,
       last_error = %(error)s,
       look_at = NULL
 WHERE cron_id = %(cron_id)s::uuid

-- name: postpone
-- The later the tick is already, the longer: at once after a mishap, and out of the way of others if it stays so. Not
-- of one that somebody is at, or has fired or changed meanwhile.
UPDATE cron
   SET last_error = %(error)s,
       look_at = clock_timestamp()
                 + least(greatest(clock_timestamp() - next_run_at, interval '1 second'), interval '1 minute')
 WHERE cron_id = (SELECT cron_id
                    FROM cron
                   WHERE cron_id = %(cron_id)s::uuid
                     AND next_run_at <= clock_timestamp()
                     AND updated_at = %(updated_at)s::timestamptz
                     FOR UPDATE SKIP LOCKED)
