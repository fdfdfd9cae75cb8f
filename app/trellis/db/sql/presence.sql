-- name: keep
-- In one order, so that two web processes never deadlock. A run that is over needs nobody.
INSERT INTO presence (run_id, thread_id, tenant_id, until)
SELECT run_id, thread_id, tenant_id, clock_timestamp() + %(seconds)s * interval '1 second'
  FROM run
 WHERE run_id = ANY(%(run_ids)s::uuid[])
   AND status IN ('pending', 'running')
 ORDER BY run_id
    ON CONFLICT (run_id) DO UPDATE SET until = excluded.until

-- name: forget
DELETE FROM presence
 WHERE run_id IN (SELECT run_id
                    FROM presence
                   WHERE run_id = ANY(%(run_ids)s::uuid[])
                   ORDER BY run_id
                     FOR UPDATE)

-- name: absent
SELECT run_id::text, thread_id::text, tenant_id, until
  FROM presence
 WHERE until < clock_timestamp()
 ORDER BY until
 LIMIT %(limit)s

-- name: take
-- Whoever has come back meanwhile is present.
DELETE FROM presence
 WHERE run_id = %(run_id)s::uuid
   AND until = %(until)s
