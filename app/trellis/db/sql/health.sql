-- name: queue
-- How many runs wait and for how long, and how many could start now because their thread is free.
-- Only the active runs are read, through their partial indexes.
WITH active AS (
    SELECT thread_id, status, run_after,
           extract(epoch FROM clock_timestamp() - greatest(created_at, run_after))::float8 AS waited,
           EXISTS (SELECT 1 FROM run y WHERE y.thread_id = run.thread_id AND y.status = 'running') AS blocked
      FROM run
     WHERE status IN ('pending', 'running')
), due AS (
    SELECT waited, blocked
      FROM active
     WHERE status = 'pending'
       AND run_after <= clock_timestamp()
)
SELECT (SELECT count(*) FROM active WHERE status = 'pending') AS n_pending,
       (SELECT count(*) FROM active WHERE status = 'running') AS n_running,
       (SELECT max(waited) FROM due) AS wait_max,
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) FROM due) AS wait_median,
       (SELECT max(waited) FROM due WHERE NOT blocked) AS unblocked_wait_max
