-- name: fence
-- How many claims of its runs a thread has seen.
SELECT fence
  FROM thread
 WHERE thread_id = %(thread_id)s::uuid
   AND tenant_id = %(tenant_id)s
   AND NOT temporary

-- name: attempts
-- The last attempts at a thread's newest runs, in the order of their claims, and whether their log may still be there.
-- "Over" leaves the log time to hear of it. Runs are claimed in the order of seq but for those with a delay, so the
-- newest by seq are the newest, and the index has them.
SELECT run_id::text, graph_id, fence, coalesce(ended_at < clock_timestamp() - interval '2 seconds', false) AS is_over,
       ended_at IS NULL OR ended_at > clock_timestamp() - %(kept_seconds)s * interval '1 second' AS is_kept
  FROM (SELECT run_id, graph_id, fence, ended_at
          FROM run
         WHERE thread_id = %(thread_id)s::uuid
           AND tenant_id = %(tenant_id)s
           AND fence > 0
         ORDER BY seq DESC
         LIMIT %(limit)s) AS newest
 WHERE fence >= %(since)s
 ORDER BY fence

-- name: over
-- The last claim among a thread's newest runs that are over, before the one that runs: others may have ended behind it.
SELECT least(coalesce(max(fence) FILTER (WHERE ended_at IS NOT NULL), 0),
             min(fence) FILTER (WHERE status = 'running') - 1) AS fence
  FROM (SELECT fence, ended_at, status
          FROM run
         WHERE thread_id = %(thread_id)s::uuid
           AND tenant_id = %(tenant_id)s
           AND fence > 0
         ORDER BY seq DESC
         LIMIT %(limit)s) AS newest

-- name: is_paused
-- Whether a thread waits where a run has left it.
SELECT 1
  FROM thread t
  JOIN run r ON r.thread_id = t.thread_id AND r.fence = t.fence
 WHERE t.thread_id = %(thread_id)s::uuid
   AND t.tenant_id = %(tenant_id)s
   AND t.status = 'interrupted'
   AND r.run_id = %(run_id)s::uuid
   AND r.status = 'success'
