-- name: queue
-- How many runs wait and for how long, and how many could start now because their thread is free; how many runs the
-- workers that were heard of lately can execute at once, and do. Only the active runs are read, through their partial
-- indexes.
WITH active AS (
    SELECT thread_id, status, run_after, lease_owner,
           extract(epoch FROM clock_timestamp() - greatest(created_at, run_after))::float8 AS waited,
           EXISTS (SELECT 1 FROM run y WHERE y.thread_id = run.thread_id AND y.status = 'running') AS blocked
      FROM run
     WHERE status IN ('pending', 'running')
), due AS (
    SELECT waited, blocked
      FROM active
     WHERE status = 'pending'
       AND run_after <= clock_timestamp()
), there AS (
    SELECT owner, slots
      FROM worker
     WHERE seen_at > clock_timestamp() - %(silent)s * interval '1 second'
)
SELECT (SELECT count(*) FROM active WHERE status = 'pending') AS n_pending,
       (SELECT count(*) FROM active WHERE status = 'running') AS n_running,
       (SELECT max(waited) FROM due) AS wait_max,
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) FROM due) AS wait_median,
       (SELECT max(waited) FROM due WHERE NOT blocked) AS unblocked_wait_max,
       (SELECT coalesce(sum(slots), 0) FROM there)::int AS workers_max,
       (SELECT count(*) FROM active JOIN there ON owner = lease_owner WHERE status = 'running') AS workers_active
