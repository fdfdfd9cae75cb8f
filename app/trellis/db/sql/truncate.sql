-- name: lock_threads
-- All of them, in the order of everybody else's locks.
SELECT thread_id::text
  FROM thread
 WHERE tenant_id = %(tenant_id)s
 ORDER BY thread.thread_id
   FOR UPDATE

-- name: lock_runs
SELECT run_id::text, status
  FROM run
 WHERE tenant_id = %(tenant_id)s
 ORDER BY run.run_id
   FOR UPDATE

-- name: runs
-- With what is kept about them; the threads are what they were before.
WITH gone AS (
    DELETE FROM run WHERE tenant_id = %(tenant_id)s
), letters AS (
    DELETE FROM dead_letter WHERE tenant_id = %(tenant_id)s
), webhooks AS (
    DELETE FROM webhook_outbox WHERE tenant_id = %(tenant_id)s
), keys AS (
    DELETE FROM idempotency WHERE tenant_id = %(tenant_id)s
)
UPDATE thread
   SET status = rest_status
 WHERE tenant_id = %(tenant_id)s
   AND status = 'busy'

-- name: clear_threads
-- Threads whose checkpoints are gone: nothing waits, nothing has failed, and no worker's claim counts any more.
UPDATE thread
   SET fence = fence + 1,
       status = CASE status WHEN 'busy' THEN status ELSE 'idle' END,
       rest_status = 'idle',
       interrupts = '{}',
       error = NULL
 WHERE tenant_id = %(tenant_id)s

-- name: assistants
DELETE FROM assistant WHERE tenant_id = %(tenant_id)s

-- name: store
DELETE FROM store_item WHERE tenant_id = %(tenant_id)s
