-- name: insert_checkpoints
-- A checkpoint that is stored again (the run's last one, under durability=exit) replaces itself.
INSERT INTO checkpoint (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, run_id, fence, body, metadata)
SELECT *
  FROM unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[], %(checkpoint_id)s::text[],
              %(parent_checkpoint_id)s::text[], %(run_id)s::uuid[], %(fence)s::bigint[], %(body)s::bytea[],
              %(metadata)s::jsonb[])
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
   SET parent_checkpoint_id = excluded.parent_checkpoint_id,
       run_id = excluded.run_id,
       fence = excluded.fence,
       body = excluded.body,
       metadata = excluded.metadata

-- name: insert_blobs
-- A version names one content for ever: what is there already is the same.
INSERT INTO checkpoint_blob (thread_id, checkpoint_ns, channel, version, type, base_version, data)
SELECT *
  FROM unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[], %(channel)s::text[], %(version)s::text[],
              %(type)s::text[], %(base_version)s::text[], %(data)s::bytea[])
    ON CONFLICT DO NOTHING

-- name: insert_writes
-- Special writes (error, interrupt, resume: idx < 0) replace what the task said before; of the others the first counts.
-- What a run replaces of another's is kept beside it: a rollback brings it back.
INSERT INTO checkpoint_write AS w (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, data, task_path,
                                   run_id)
SELECT *
  FROM unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[], %(checkpoint_id)s::text[], %(task_id)s::text[],
              %(idx)s::integer[], %(channel)s::text[], %(type)s::text[], %(data)s::bytea[], %(task_path)s::text[],
              %(run_id)s::uuid[])
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
   SET replaced_run_id = CASE WHEN w.run_id IS DISTINCT FROM excluded.run_id THEN w.run_id ELSE w.replaced_run_id END,
       replaced_type = CASE WHEN w.run_id IS DISTINCT FROM excluded.run_id THEN w.type ELSE w.replaced_type END,
       replaced_data = CASE WHEN w.run_id IS DISTINCT FROM excluded.run_id THEN w.data ELSE w.replaced_data END,
       run_id = excluded.run_id,
       channel = excluded.channel,
       type = excluded.type,
       data = excluded.data,
       task_path = excluded.task_path
 WHERE w.idx < 0

-- name: read_checkpoints
-- The named checkpoint of each key, or the newest of its namespace. n is the key's place in the question, from 1.
WITH asked AS (
    SELECT *
      FROM unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[], %(checkpoint_id)s::text[])
           WITH ORDINALITY AS a (thread_id, checkpoint_ns, checkpoint_id, n)
)
SELECT a.n, c.checkpoint_id, c.parent_checkpoint_id, c.body, c.metadata
  FROM asked a
  JOIN checkpoint c USING (thread_id, checkpoint_ns, checkpoint_id)
 UNION ALL
SELECT a.n, newest.*
  FROM asked a
 CROSS JOIN LATERAL (
       SELECT c.checkpoint_id, c.parent_checkpoint_id, c.body, c.metadata
         FROM checkpoint c
        WHERE c.thread_id = a.thread_id
          AND c.checkpoint_ns = a.checkpoint_ns
        ORDER BY c.checkpoint_id DESC
        LIMIT 1
       ) newest
 WHERE a.checkpoint_id IS NULL

-- name: read_blobs
-- The rows of each value asked for, with all that they build on. UNION ends a circle that a damaged row may make.
WITH RECURSIVE chain AS (
    SELECT b.thread_id, b.checkpoint_ns, b.channel, b.version, b.base_version
      FROM unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[], %(channel)s::text[], %(version)s::text[])
           AS a (thread_id, checkpoint_ns, channel, version)
      JOIN checkpoint_blob b USING (thread_id, checkpoint_ns, channel, version)
     UNION
    SELECT b.thread_id, b.checkpoint_ns, b.channel, b.version, b.base_version
      FROM chain c
      JOIN checkpoint_blob b
        ON b.thread_id = c.thread_id
       AND b.checkpoint_ns = c.checkpoint_ns
       AND b.channel = c.channel
       AND b.version = c.base_version
)
SELECT b.thread_id::text, b.checkpoint_ns, b.channel, b.version, b.type, b.base_version, b.data
  FROM chain c
  JOIN checkpoint_blob b USING (thread_id, checkpoint_ns, channel, version)

-- name: read_writes
-- In the order in which a superstep applies them.
SELECT w.thread_id::text, w.checkpoint_ns, w.checkpoint_id, w.task_id, w.idx, w.channel, w.type, w.data
  FROM unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[], %(checkpoint_id)s::text[])
       AS a (thread_id, checkpoint_ns, checkpoint_id)
  JOIN checkpoint_write w USING (thread_id, checkpoint_ns, checkpoint_id)
 ORDER BY w.task_path, w.task_id, w.idx

-- name: replaced_questions
-- A question that another run had asked, and what stands in its place since this run.
SELECT checkpoint_ns, checkpoint_id, task_id, idx, channel, replaced_type, replaced_data, type, data
  FROM checkpoint_write
 WHERE thread_id = %(thread_id)s::uuid
   AND run_id = %(run_id)s::uuid
   AND channel = '__interrupt__'
   AND replaced_type IS NOT NULL

-- name: page
-- Newest first, from behind the last row of the page before. A condition that is NULL does not apply.
SELECT thread_id::text, checkpoint_ns, checkpoint_id, parent_checkpoint_id, body, metadata
  FROM checkpoint
 WHERE (%(thread_id)s::uuid IS NULL OR thread_id = %(thread_id)s::uuid)
   AND (%(checkpoint_ns)s::text IS NULL OR checkpoint_ns = %(checkpoint_ns)s::text)
   AND (%(checkpoint_id)s::text IS NULL OR checkpoint_id = %(checkpoint_id)s::text)
   AND (%(before)s::text IS NULL OR checkpoint_id < %(before)s::text)
   AND (%(filter)s::jsonb IS NULL OR metadata @> %(filter)s::jsonb)
   AND (%(last_id)s::text IS NULL
        OR (checkpoint_id, thread_id, checkpoint_ns) < (%(last_id)s::text, %(last_thread)s::uuid, %(last_ns)s::text))
 ORDER BY checkpoint_id DESC, checkpoint.thread_id DESC, checkpoint_ns DESC
 LIMIT %(limit)s

-- name: patch_latest
UPDATE checkpoint
   SET metadata = metadata || %(metadata)s::jsonb
 WHERE thread_id = %(thread_id)s::uuid
   AND checkpoint_ns = ''
   AND checkpoint_id = (SELECT c.checkpoint_id
                          FROM checkpoint c
                         WHERE c.thread_id = %(thread_id)s::uuid
                           AND c.checkpoint_ns = ''
                         ORDER BY c.checkpoint_id DESC
                         LIMIT 1)

-- name: ancestors
-- The checkpoint's parent, its parent, and so on, nearest first, as far as asked.
WITH RECURSIVE up AS (
    SELECT checkpoint_id, parent_checkpoint_id, 0 AS depth
      FROM checkpoint
     WHERE thread_id = %(thread_id)s::uuid
       AND checkpoint_ns = %(checkpoint_ns)s
       AND checkpoint_id = %(checkpoint_id)s
     UNION ALL
    SELECT c.checkpoint_id, c.parent_checkpoint_id, up.depth + 1
      FROM up
      JOIN checkpoint c
        ON c.thread_id = %(thread_id)s::uuid
       AND c.checkpoint_ns = %(checkpoint_ns)s
       AND c.checkpoint_id = up.parent_checkpoint_id
     WHERE up.depth < %(depth)s
)
SELECT c.checkpoint_id, c.body
  FROM up
  JOIN checkpoint c
    ON c.thread_id = %(thread_id)s::uuid
   AND c.checkpoint_ns = %(checkpoint_ns)s
   AND c.checkpoint_id = up.checkpoint_id
 WHERE up.depth > 0
 ORDER BY up.depth

-- name: delete_threads
WITH gone AS (
    DELETE FROM checkpoint WHERE thread_id = ANY(%(thread_ids)s::uuid[])
), values_gone AS (
    DELETE FROM checkpoint_blob WHERE thread_id = ANY(%(thread_ids)s::uuid[])
)
DELETE FROM checkpoint_write WHERE thread_id = ANY(%(thread_ids)s::uuid[])

-- name: copy_checkpoints
-- Without run_id: deleting a run's checkpoints must not reach into the copy.
INSERT INTO checkpoint (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, body, metadata)
SELECT %(target)s::uuid, checkpoint_ns, checkpoint_id, parent_checkpoint_id, body, metadata
  FROM checkpoint
 WHERE thread_id = %(source)s::uuid
    ON CONFLICT DO NOTHING

-- name: copy_blobs
INSERT INTO checkpoint_blob (thread_id, checkpoint_ns, channel, version, type, base_version, data)
SELECT %(target)s::uuid, checkpoint_ns, channel, version, type, base_version, data
  FROM checkpoint_blob
 WHERE thread_id = %(source)s::uuid
    ON CONFLICT DO NOTHING

-- name: copy_writes
INSERT INTO checkpoint_write (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, data, task_path)
SELECT %(target)s::uuid, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, data, task_path
  FROM checkpoint_write
 WHERE thread_id = %(source)s::uuid
    ON CONFLICT DO NOTHING

-- name: next_checkpoints
-- For a copy that is encrypted anew: some of a thread's rows, from behind the last one.
SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id, body, metadata
  FROM checkpoint
 WHERE thread_id = %(thread_id)s::uuid
   AND (%(after)s::text[] IS NULL
        OR (checkpoint_ns, checkpoint_id) > ((%(after)s::text[])[1], (%(after)s::text[])[2]))
 ORDER BY checkpoint_ns, checkpoint_id
 LIMIT %(limit)s

-- name: next_blobs
SELECT checkpoint_ns, channel, version, type, base_version, data
  FROM checkpoint_blob
 WHERE thread_id = %(thread_id)s::uuid
   AND (%(after)s::text[] IS NULL
        OR (checkpoint_ns, channel, version)
         > ((%(after)s::text[])[1], (%(after)s::text[])[2], (%(after)s::text[])[3]))
 ORDER BY checkpoint_ns, channel, version
 LIMIT %(limit)s

-- name: next_writes
SELECT checkpoint_ns, checkpoint_id, task_id, idx, channel, type, data, task_path
  FROM checkpoint_write
 WHERE thread_id = %(thread_id)s::uuid
   AND (%(after)s::text[] IS NULL
        OR (checkpoint_ns, checkpoint_id, task_id, idx)
         > ((%(after)s::text[])[1], (%(after)s::text[])[2], (%(after)s::text[])[3],
            (%(after)s::text[])[4]::integer))
 ORDER BY checkpoint_ns, checkpoint_id, task_id, idx
 LIMIT %(limit)s

-- name: of_threads
SELECT thread_id::text, checkpoint_ns, checkpoint_id
  FROM checkpoint
 WHERE thread_id = ANY(%(thread_ids)s::uuid[])

-- name: newest
SELECT DISTINCT ON (checkpoint.thread_id, checkpoint_ns)
       thread_id::text, checkpoint_ns, checkpoint_id, metadata -> 'counters_since_delta_snapshot' AS counters
  FROM checkpoint
 WHERE thread_id = ANY(%(thread_ids)s::uuid[])
 ORDER BY checkpoint.thread_id, checkpoint_ns, checkpoint_id DESC

-- name: of_runs
SELECT thread_id::text, checkpoint_ns, checkpoint_id
  FROM checkpoint
 WHERE run_id = ANY(%(run_ids)s::uuid[])

-- name: is_built_upon
-- A child has the greater id.
SELECT EXISTS (SELECT 1
                 FROM run r
                WHERE r.thread_id = %(thread_id)s::uuid
                  AND r.run_id <> %(run_id)s::uuid
                  AND (r.status = 'running' OR (r.status = 'pending' AND r.has_progress)))
    OR EXISTS (SELECT 1
                 FROM checkpoint c
                 JOIN checkpoint child
                   ON child.thread_id = c.thread_id
                  AND child.checkpoint_ns = c.checkpoint_ns
                  AND child.checkpoint_id > c.checkpoint_id
                  AND child.parent_checkpoint_id = c.checkpoint_id
                WHERE c.run_id = %(run_id)s::uuid
                  AND child.run_id IS DISTINCT FROM c.run_id
                  AND child.metadata ? 'counters_since_delta_snapshot')

-- name: restore_writes
-- Of the writes of a run that is rolled back: those that replaced an older run's become what they were, …
UPDATE checkpoint_write
   SET run_id = replaced_run_id,
       type = replaced_type,
       data = replaced_data,
       replaced_run_id = NULL,
       replaced_type = NULL,
       replaced_data = NULL
 WHERE thread_id = %(thread_id)s::uuid
   AND run_id = %(run_id)s::uuid
   AND replaced_type IS NOT NULL

-- name: delete_writes
-- … and the others go, also those that hang on an older run's checkpoint: a human's answer, for example.
DELETE FROM checkpoint_write
 WHERE thread_id = %(thread_id)s::uuid
   AND run_id = %(run_id)s::uuid

-- name: delete_checkpoints
-- The named checkpoints with their writes. Those that came since they were looked up stay.
WITH named AS (
    SELECT *
      FROM unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[], %(checkpoint_id)s::text[])
           AS n (thread_id, checkpoint_ns, checkpoint_id)
), gone AS (
    DELETE FROM checkpoint c
     USING named n
     WHERE c.thread_id = n.thread_id
       AND c.checkpoint_ns = n.checkpoint_ns
       AND c.checkpoint_id = n.checkpoint_id
)
DELETE FROM checkpoint_write w
 USING named n
 WHERE w.thread_id = n.thread_id
   AND w.checkpoint_ns = n.checkpoint_ns
   AND w.checkpoint_id = n.checkpoint_id

-- name: advance
-- A state update that was worked out on what is deleted here must not count.
UPDATE thread
   SET fence = fence + 1
 WHERE thread_id = ANY(%(thread_ids)s::uuid[])

-- name: blob_keys
SELECT b.thread_id::text, b.checkpoint_ns, b.channel, b.version, b.base_version
  FROM unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[]) AS n (thread_id, checkpoint_ns)
  JOIN checkpoint_blob b USING (thread_id, checkpoint_ns)

-- name: bodies
SELECT c.thread_id::text, c.checkpoint_ns, c.checkpoint_id, c.body
  FROM unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[]) AS n (thread_id, checkpoint_ns)
  JOIN checkpoint c USING (thread_id, checkpoint_ns)

-- name: delete_blobs
DELETE FROM checkpoint_blob b
 USING unnest(%(thread_id)s::uuid[], %(checkpoint_ns)s::text[], %(channel)s::text[], %(version)s::text[])
       AS n (thread_id, checkpoint_ns, channel, version)
 WHERE b.thread_id = n.thread_id
   AND b.checkpoint_ns = n.checkpoint_ns
   AND b.channel = n.channel
   AND b.version = n.version
