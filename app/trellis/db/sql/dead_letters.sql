-- name: bury
-- Keep what runs that ended in error were asked to do, and why they failed.
INSERT INTO dead_letter (run_id, tenant_id, thread_id, assistant_id, graph_id, kwargs, reason, attempts, last_error,
                         traceback)
SELECT run.run_id, run.tenant_id, run.thread_id, run.assistant_id, run.graph_id, run.kwargs, o.reason, run.attempt,
       run.error, o.traceback
  FROM unnest(%(run_ids)s::uuid[], %(reasons)s::text[], %(tracebacks)s::text[]) AS o (run_id, reason, traceback)
  JOIN run ON run.run_id = o.run_id
 WHERE run.status = 'error'
    ON CONFLICT (run_id) DO NOTHING

-- name: forget
-- Of a thread or a run that was deleted on purpose nothing is kept.
DELETE FROM dead_letter
 WHERE thread_id = ANY(%(thread_ids)s::uuid[])
   AND (%(run_id)s::uuid IS NULL OR run_id = %(run_id)s::uuid)

-- name: sweep
DELETE FROM dead_letter
 WHERE run_id IN (SELECT run_id
                    FROM dead_letter
                   WHERE created_at < clock_timestamp() - interval '30 days'
                   ORDER BY created_at
                   LIMIT %(limit)s
                     FOR UPDATE SKIP LOCKED)

-- name: newest
SELECT run_id::text, tenant_id, thread_id::text, assistant_id::text, graph_id, created_at, reason, attempts, last_error,
       traceback, kwargs
  FROM dead_letter
 WHERE (%(graph_id)s::text IS NULL OR graph_id = %(graph_id)s)
   AND (%(run_id)s::uuid IS NULL OR run_id = %(run_id)s::uuid)
 ORDER BY created_at DESC
 LIMIT %(limit)s
