-- name: lock_thread
-- First of all locks (run-protocol §3): what is decided after it is decided on what is there.
SELECT 1
  FROM thread
 WHERE thread_id = %(thread_id)s::uuid
   AND tenant_id = %(tenant_id)s
   FOR UPDATE

-- name: lock_threads
-- Those that are there for clients, in one order.
SELECT thread_id::text
  FROM thread
 WHERE thread_id = ANY(%(thread_ids)s::uuid[])
   AND tenant_id = %(tenant_id)s
   AND NOT temporary
 ORDER BY thread.thread_id
   FOR UPDATE

-- name: active
-- The runs of a thread that are not over, oldest first. A statement of its own, so that it sees what happened while
-- the lock was waited for.
SELECT run_id::text, graph_id, status, has_progress
  FROM run
 WHERE thread_id = %(thread_id)s::uuid
   AND status IN ('pending', 'running')
 ORDER BY seq

-- name: find
SELECT thread_id::text, status
  FROM run
 WHERE run_id = %(run_id)s::uuid
   AND tenant_id = %(tenant_id)s

-- name: find_active
-- A page of the runs that are meant, from behind the last one of the page before. Those that were made since the first
-- page are left out: somebody may make runs faster than they are ended. (Unqualified, the order would be that of the
-- texts, which no index has.)
SELECT run_id::text, thread_id::text, seq, coalesce(%(at)s::timestamptz, clock_timestamp()) AS at
  FROM run
 WHERE tenant_id = %(tenant_id)s
   AND status = ANY(%(statuses)s::text[])
   AND (%(thread_id)s::uuid IS NULL OR thread_id = %(thread_id)s::uuid)
   AND (%(run_ids)s::uuid[] IS NULL OR run_id = ANY(%(run_ids)s::uuid[]))
   AND (%(assistant_id)s::uuid IS NULL OR assistant_id = %(assistant_id)s::uuid)
   AND (%(at)s::timestamptz IS NULL
        OR (created_at <= %(at)s::timestamptz AND (thread_id, seq) > (%(last_thread)s::uuid, %(last_seq)s::bigint)))
 ORDER BY run.thread_id, run.seq
 LIMIT %(limit)s

-- name: ask
-- The worker ends the run; this says how. A stronger wish replaces a weaker one, never the other way round.
UPDATE run
   SET cancel_action = %(action)s,
       cancel_reason = %(reason)s,
       cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
       updated_at = clock_timestamp()
 WHERE run_id = ANY(%(run_ids)s::uuid[])
   AND status = 'running'
   AND coalesce(array_position(ARRAY['interrupt', 'timeout', 'rollback'], cancel_action), 0)
       <= array_position(ARRAY['interrupt', 'timeout', 'rollback'], %(action)s)

-- name: count
-- The end of a run that no worker has is counted as a claim is: whoever follows the thread is told of it in that order.
UPDATE thread
   SET fence = fence + %(count)s
 WHERE thread_id = %(thread_id)s::uuid
RETURNING tenant_id, fence

-- name: place_end
UPDATE run
   SET fence = %(fence)s
 WHERE run_id = %(run_id)s::uuid

-- name: end_pending
UPDATE run
   SET status = 'interrupted',
       fence = o.fence,
       cancel_action = %(action)s,
       cancel_reason = %(reason)s,
       cancel_requested_at = clock_timestamp(),
       ended_at = clock_timestamp(),
       updated_at = clock_timestamp()
  FROM unnest(%(run_ids)s::uuid[], %(fences)s::bigint[]) AS o (run_id, fence)
 WHERE run.run_id = o.run_id
   AND run.status = 'pending'

-- name: end_overdue
-- For a worker that is dead, or does not listen. Re-checked under the locks.
UPDATE run
   SET status = CASE cancel_action WHEN 'timeout' THEN 'timeout' ELSE 'interrupted' END,
       ended_at = clock_timestamp(),
       updated_at = clock_timestamp(),
       lost_owner = lease_owner,
       lease_owner = NULL,
       lease_expires_at = NULL
 WHERE run_id = %(run_id)s::uuid
   AND status = 'running'
   AND cancel_action IS NOT NULL
   AND (lease_expires_at < clock_timestamp()
        OR cancel_requested_at < clock_timestamp() - %(patience)s * interval '1 second')
RETURNING cancel_action, cancel_reason

-- name: rest
-- A thread some of whose pending runs are gone, none of which had begun: busy with the others, or what it was before.
UPDATE thread
   SET status = CASE WHEN n.run_id IS NULL THEN thread.rest_status ELSE 'busy' END,
       updated_at = clock_timestamp(),
       expires_at = CASE WHEN thread.temporary THEN clock_timestamp() + interval '2 minutes' ELSE thread.expires_at END
  FROM (SELECT %(thread_id)s::uuid AS thread_id) AS o
  LEFT JOIN LATERAL (SELECT r.run_id, r.graph_id, r.run_after, r.status
                       FROM run r
                      WHERE r.thread_id = o.thread_id
                        AND r.status IN ('pending', 'running')
                      ORDER BY r.status DESC, r.seq
                      LIMIT 1) AS n ON true
 WHERE thread.thread_id = o.thread_id
RETURNING n.run_id::text, n.graph_id, n.status = 'pending' AND n.run_after <= clock_timestamp() AS due

-- name: time_out
-- Runs past their deadline whose worker does not see it. Ordered, as heartbeats are.
WITH late AS (
    SELECT run_id
      FROM run
     WHERE status = 'running'
       AND deadline_at < clock_timestamp()
       AND cancel_action IS NULL
     ORDER BY run_id
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
)
UPDATE run
   SET cancel_action = 'timeout',
       cancel_requested_at = clock_timestamp()
  FROM late
 WHERE run.run_id = late.run_id
RETURNING run.run_id::text

-- name: lock_runs
-- Waits for writers that hold one of them.
SELECT run_id::text, thread_id::text, graph_id, status
  FROM run
 WHERE thread_id = ANY(%(thread_ids)s::uuid[])
   AND (%(run_id)s::uuid IS NULL OR run_id = %(run_id)s::uuid)
 ORDER BY run.run_id
   FOR UPDATE

-- name: is_head
-- Whether the thread's newest checkpoint is of this run.
SELECT coalesce((SELECT c.run_id = %(run_id)s::uuid
                   FROM checkpoint c
                  WHERE c.thread_id = %(thread_id)s::uuid
                    AND c.checkpoint_ns = ''
                  ORDER BY c.checkpoint_id DESC
                  LIMIT 1), false) AS yes

-- name: clear
-- The state that a thread waited on, or failed with, has been deleted.
UPDATE thread
   SET status = 'idle',
       interrupts = '{}',
       error = NULL,
       updated_at = clock_timestamp()
 WHERE thread_id = %(thread_id)s::uuid
   AND status IN ('interrupted', 'error')
