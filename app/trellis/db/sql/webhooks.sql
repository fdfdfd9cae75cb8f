-- name: take
-- Rows that are due, for one deliverer each: nobody else gets them before the deadline, and then only if this one
-- did not come back to say how it went.
UPDATE webhook_outbox
   SET attempt = attempt + 1,
       next_attempt_at = clock_timestamp() + %(deadline)s * interval '1 second'
 WHERE webhook_id IN (SELECT webhook_id
                        FROM webhook_outbox
                       WHERE delivered_at IS NULL
                         AND given_up_at IS NULL
                         AND next_attempt_at <= (SELECT clock_timestamp())
                       ORDER BY next_attempt_at
                       LIMIT %(limit)s
                         FOR UPDATE SKIP LOCKED)
RETURNING webhook_id, run_id::text, url, payload, attempt, clock_timestamp() AS now

-- name: delivered
UPDATE webhook_outbox
   SET delivered_at = clock_timestamp(),
       last_error = NULL,
       log = log || jsonb_build_object('attempt', %(attempt)s::int, 'at', wire_time(%(now)s), 'error', NULL)
 WHERE webhook_id = %(webhook_id)s

-- name: failed
-- Only by the attempt that is the latest. No pause: it was the last one; the row stays, with the reason.
UPDATE webhook_outbox
   SET last_error = %(error)s,
       log = log || jsonb_build_object('attempt', %(attempt)s::int, 'at', wire_time(%(now)s), 'error', %(error)s::text),
       next_attempt_at = coalesce(clock_timestamp() + %(pause)s::float8 * interval '1 second', next_attempt_at),
       given_up_at = CASE WHEN %(pause)s::float8 IS NULL THEN clock_timestamp() END
 WHERE webhook_id = %(webhook_id)s
   AND attempt = %(attempt)s
   AND delivered_at IS NULL

-- name: find
-- What became of a run's webhook; the run itself may be gone.
SELECT url, attempt, log, next_attempt_at, delivered_at, given_up_at
  FROM webhook_outbox
 WHERE run_id = %(run_id)s::uuid
   AND tenant_id = %(tenant_id)s

-- name: last_checkpoint
-- The state in which a run left its thread, whatever has happened on it since.
SELECT max(checkpoint_id)
  FROM checkpoint
 WHERE run_id = %(run_id)s::uuid
   AND thread_id = %(thread_id)s::uuid
   AND checkpoint_ns = ''

-- name: sweep
DELETE FROM webhook_outbox
 WHERE webhook_id IN (SELECT webhook_id
                        FROM webhook_outbox
                       WHERE (delivered_at < clock_timestamp() - interval '7 days'
                              OR given_up_at < clock_timestamp() - interval '30 days')
                         AND created_at < clock_timestamp() - interval '7 days'
                       ORDER BY created_at
                       LIMIT %(limit)s
                         FOR UPDATE SKIP LOCKED)
