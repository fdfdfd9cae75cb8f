-- name: leave_threads
-- Everything of deleted threads. A little later, so that whoever is reading one still finds what its rows name.
INSERT INTO checkpoint_leftover (thread_id, due_at)
SELECT thread_id, clock_timestamp() + %(delay)s * interval '1 second'
  FROM unnest(%(thread_ids)s::uuid[]) AS t (thread_id)

-- name: leave_run
INSERT INTO checkpoint_leftover (thread_id, run_id, due_at)
VALUES (%(thread_id)s::uuid, %(run_id)s::uuid, clock_timestamp())

-- name: hasten
-- Whether anything is left of an earlier thread with this id. What nobody has begun with is due at once: a run waits.
WITH hastened AS (
    UPDATE checkpoint_leftover
       SET due_at = clock_timestamp()
     WHERE thread_id = %(thread_id)s::uuid
       AND run_id IS NULL
       AND attempt = 0
       AND due_at > clock_timestamp()
)
SELECT EXISTS (SELECT 1
                 FROM checkpoint_leftover
                WHERE thread_id = %(thread_id)s::uuid
                  AND run_id IS NULL)

-- name: take
-- One that is due, for one process: nobody else gets it before the deadline.
UPDATE checkpoint_leftover
   SET attempt = attempt + 1,
       due_at = clock_timestamp() + %(deadline)s * interval '1 second'
 WHERE leftover_id = (SELECT leftover_id
                        FROM checkpoint_leftover
                       WHERE due_at <= (SELECT clock_timestamp())
                       ORDER BY due_at
                       LIMIT 1
                         FOR UPDATE SKIP LOCKED)
RETURNING leftover_id, thread_id::text, run_id::text, attempt

-- name: removed
DELETE FROM checkpoint_leftover
 WHERE leftover_id = %(leftover_id)s

-- name: failed
UPDATE checkpoint_leftover
   SET last_error = %(error)s,
       due_at = clock_timestamp() + %(pause)s * interval '1 second'
 WHERE leftover_id = %(leftover_id)s
   AND attempt = %(attempt)s

-- name: keep
-- What was only to go if it came to nothing. No row: it has gone already.
DELETE FROM checkpoint_leftover
 WHERE thread_id = %(thread_id)s::uuid
   AND run_id IS NULL
   AND attempt = 0
RETURNING leftover_id
