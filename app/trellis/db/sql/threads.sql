-- name: insert
-- One clock reading for all times. No row: a thread with this id exists, whoever owns it.
INSERT INTO thread (thread_id, tenant_id, metadata, ttl_strategy, ttl_minutes, expires_at,
                    created_at, updated_at, state_updated_at)
SELECT %(thread_id)s::uuid, %(tenant_id)s, %(metadata)s::jsonb, %(ttl_strategy)s, %(ttl_minutes)s::float8,
       at.now + %(ttl_minutes)s::float8 * interval '1 minute', at.now, at.now, at.now
  FROM (SELECT clock_timestamp() AS now) AS at
    ON CONFLICT (thread_id) DO NOTHING
RETURNING thread_id::text, created_at, updated_at, state_updated_at, metadata, status, config, error, interrupts,
          ttl_strategy, ttl_minutes, expires_at

-- name: get
-- A stateless run's temporary thread is nobody's to see.
SELECT thread_id::text, created_at, updated_at, state_updated_at, metadata, status, config, error, interrupts,
       ttl_strategy, ttl_minutes, expires_at
  FROM thread
 WHERE thread_id = %(thread_id)s::uuid
   AND tenant_id = %(tenant_id)s
   AND NOT temporary

-- name: patch
-- Metadata is merged one level deep; a time to live that is given starts anew.
UPDATE thread
   SET metadata = metadata || %(metadata)s::jsonb,
       ttl_strategy = coalesce(%(ttl_strategy)s, ttl_strategy),
       ttl_minutes = coalesce(%(ttl_minutes)s::float8, ttl_minutes),
       expires_at = coalesce(clock_timestamp() + %(ttl_minutes)s::float8 * interval '1 minute', expires_at),
       updated_at = clock_timestamp()
 WHERE thread_id = %(thread_id)s::uuid
   AND tenant_id = %(tenant_id)s
   AND NOT temporary
RETURNING thread_id::text, created_at, updated_at, state_updated_at, metadata, status, config, error, interrupts,
          ttl_strategy, ttl_minutes, expires_at

-- name: exists
SELECT EXISTS (SELECT 1
                 FROM thread
                WHERE thread_id = %(thread_id)s::uuid
                  AND tenant_id = %(tenant_id)s
                  AND NOT temporary) AS found

-- name: total
-- One snapshot for both: what the sweep adds to the total is in the changes until then.
SELECT coalesce((SELECT threads FROM thread_total WHERE tenant_id = %(tenant_id)s), 0)
       + coalesce((SELECT sum(change) FROM thread_change WHERE tenant_id = %(tenant_id)s), 0)::bigint AS threads

-- name: add_up
-- By several processes at once: each takes changes of its own, and they change the totals in one order.
WITH taken AS (
    DELETE FROM thread_change
     WHERE ctid = ANY(ARRAY(SELECT ctid
                              FROM thread_change
                             LIMIT %(limit)s
                               FOR UPDATE SKIP LOCKED))
    RETURNING tenant_id, change
)
INSERT INTO thread_total AS t (tenant_id, threads)
SELECT tenant_id, sum(change)
  FROM taken
 GROUP BY tenant_id
 ORDER BY tenant_id
    ON CONFLICT (tenant_id) DO UPDATE SET threads = t.threads + excluded.threads

-- name: states
-- Which channels of each thread's graph are its state and what they begin with, as the workers published it.
SELECT t.thread_id::text, g.state_channels, coalesce(g.initial_values, '{}')
  FROM thread t
  JOIN graph g ON g.graph_id = t.metadata ->> 'graph_id'
 WHERE t.thread_id = ANY(%(thread_ids)s::uuid[])

-- name: has_checkpoints
SELECT EXISTS (SELECT 1 FROM checkpoint WHERE thread_id = %(thread_id)s::uuid) AS found

-- name: has_checkpoint
SELECT EXISTS (SELECT 1
                 FROM checkpoint
                WHERE thread_id = %(thread_id)s::uuid
                  AND checkpoint_ns = ''
                  AND checkpoint_id = %(checkpoint_id)s) AS found

-- name: interrupts
-- Of a temporary thread too: whoever waits for its run is told.
SELECT interrupts FROM thread WHERE thread_id = %(thread_id)s::uuid

-- name: basis
-- What a change of a thread's state begins with, and is checked against again under the thread's lock. Every claim,
-- every change of state and every deletion of checkpoints makes the fence another.
SELECT t.metadata, t.config, t.fence,
       ARRAY(SELECT r.run_id::text
               FROM run r
              WHERE r.thread_id = t.thread_id
                AND r.status IN ('pending', 'running')
              ORDER BY r.seq
              LIMIT 10) AS in_flight
  FROM thread t
 WHERE t.thread_id = %(thread_id)s::uuid
   AND t.tenant_id = %(tenant_id)s
   AND NOT t.temporary

-- name: settle
-- After a change of state on which nothing ran: whoever held an older fence writes nothing any more.
UPDATE thread
   SET fence = fence + 1,
       status = %(status)s,
       rest_status = %(status)s,
       error = NULL,
       interrupts = %(interrupts)s::json,
       updated_at = clock_timestamp(),
       state_updated_at = clock_timestamp(),
       expires_at = clock_timestamp() + ttl_minutes * interval '1 minute'
 WHERE thread_id = %(thread_id)s::uuid

-- name: without_runs
-- A statement of its own, after the threads were locked: it sees every run that was accepted by then.
SELECT t.thread_id::text
  FROM unnest(%(thread_ids)s::uuid[]) AS t (thread_id)
 WHERE NOT EXISTS (SELECT 1
                     FROM run
                    WHERE run.thread_id = t.thread_id
                      AND run.status IN ('pending', 'running'))

-- name: copy
-- As the source is when nothing runs on it, made just now; a time to live begins anew.
INSERT INTO thread (thread_id, tenant_id, status, metadata, config, interrupts, error, ttl_strategy, ttl_minutes,
                    expires_at, created_at, updated_at, state_updated_at)
SELECT %(target)s::uuid, t.tenant_id, CASE t.status WHEN 'busy' THEN t.rest_status ELSE t.status END, t.metadata,
       t.config, t.interrupts, t.error, t.ttl_strategy, t.ttl_minutes,
       at.now + t.ttl_minutes * interval '1 minute', at.now, at.now, at.now
  FROM thread t
 CROSS JOIN (SELECT clock_timestamp() AS now) AS at
 WHERE t.thread_id = %(source)s::uuid
RETURNING thread_id::text, created_at, updated_at, state_updated_at, metadata, status, config, error, interrupts,
          ttl_strategy, ttl_minutes, expires_at

-- name: seal
-- What was copied, encrypted for the copy.
UPDATE thread
   SET error = %(error)s::jsonb,
       interrupts = %(interrupts)s::json
 WHERE thread_id = %(thread_id)s::uuid

-- name: storage
-- Rows and their bytes as stored, before Postgres compresses them. Small values are part of their checkpoint.
SELECT c.n AS checkpoint_count, c.bytes AS checkpoint_bytes, w.n AS write_count, w.bytes AS write_bytes, v.by_channel
  FROM (SELECT count(*) AS n, coalesce(sum(octet_length(body) + octet_length(metadata::text)), 0)::bigint AS bytes
          FROM checkpoint
         WHERE thread_id = %(thread_id)s::uuid) AS c,
       (SELECT count(*) AS n, coalesce(sum(octet_length(data)), 0)::bigint AS bytes
          FROM checkpoint_write
         WHERE thread_id = %(thread_id)s::uuid) AS w,
       (SELECT coalesce(json_object_agg(channel, json_build_object('versions', versions, 'bytes', bytes)
                                        ORDER BY channel), '{}') AS by_channel
          FROM (SELECT channel, count(*) AS versions, sum(octet_length(data))::bigint AS bytes
                  FROM checkpoint_blob
                 WHERE thread_id = %(thread_id)s::uuid
                 GROUP BY channel) AS each_channel) AS v
