-- name: subject
-- The thread a run is asked for on, and the assistant that is to run.
SELECT t.thread_id::text, t.metadata AS thread_metadata, t.priority,
       a.assistant_id::text, a.graph_id, a.config, a.context, a.metadata
  FROM thread t
  LEFT JOIN assistant a ON a.assistant_id = %(assistant_id)s::uuid AND a.tenant_id = %(tenant_id)s
 WHERE t.thread_id = %(thread_id)s::uuid
   AND t.tenant_id = %(tenant_id)s
   AND NOT t.temporary

-- name: assistant
SELECT assistant_id::text, graph_id, config, context, metadata
  FROM assistant
 WHERE assistant_id = %(assistant_id)s::uuid
   AND tenant_id = %(tenant_id)s

-- name: enqueue
-- Accept a run on a thread. The update locks the thread's row first, which serialises creates, claims and finishes
-- of one thread; no row means that the thread is not there any more. One statement, so accepted or not.
WITH busy AS (
    UPDATE thread
       SET rest_status = CASE status WHEN 'busy' THEN rest_status ELSE status END,
           status = 'busy',
           metadata = metadata || %(thread_metadata)s::jsonb,
           config = %(thread_config)s::jsonb,
           priority = coalesce(priority, %(priority)s::smallint),
           updated_at = clock_timestamp()
     WHERE thread_id = %(thread_id)s::uuid
       AND tenant_id = %(tenant_id)s
       AND NOT temporary
    RETURNING thread_id, priority
)
INSERT INTO run (run_id, thread_id, tenant_id, assistant_id, graph_id, multitask_strategy, metadata, kwargs,
                 run_after, timeout_seconds, max_crashes, hinted_at, webhook, priority, rank_at)
SELECT %(run_id)s::uuid, thread_id, %(tenant_id)s, %(assistant_id)s::uuid, %(graph_id)s, %(multitask_strategy)s,
       %(metadata)s::jsonb, %(kwargs)s::json, clock_timestamp() + %(after_seconds)s * interval '1 second',
       %(timeout_seconds)s, %(max_crashes)s, clock_timestamp(), %(webhook)s, coalesce(priority, 0),
       clock_timestamp() + %(after_seconds)s * interval '1 second' + priority * %(step)s * interval '1 minute'
  FROM busy
RETURNING created_at, updated_at

-- name: enqueue_with_thread
-- Accept a run on a thread made for it: by if_not_exists=create, or (temporary) for a stateless run. No row means
-- that there is a thread with this id.
WITH made AS (
    INSERT INTO thread (thread_id, tenant_id, status, metadata, config, temporary, priority, ttl_strategy, ttl_minutes,
                        expires_at)
    VALUES (%(thread_id)s::uuid, %(tenant_id)s, 'busy', %(thread_metadata)s::jsonb, %(thread_config)s::jsonb,
            %(temporary)s, %(priority)s::smallint, %(ttl_strategy)s, %(ttl_minutes)s::float8,
            clock_timestamp() + %(ttl_minutes)s::float8 * interval '1 minute')
        ON CONFLICT (thread_id) DO NOTHING
    RETURNING thread_id, priority
)
INSERT INTO run (run_id, thread_id, tenant_id, assistant_id, graph_id, multitask_strategy, metadata, kwargs,
                 run_after, timeout_seconds, max_crashes, hinted_at, webhook, priority, rank_at)
SELECT %(run_id)s::uuid, thread_id, %(tenant_id)s, %(assistant_id)s::uuid, %(graph_id)s, %(multitask_strategy)s,
       %(metadata)s::jsonb, %(kwargs)s::json, clock_timestamp() + %(after_seconds)s * interval '1 second',
       %(timeout_seconds)s, %(max_crashes)s, clock_timestamp(), %(webhook)s, coalesce(priority, 0),
       clock_timestamp() + %(after_seconds)s * interval '1 second' + priority * %(step)s * interval '1 minute'
  FROM made
RETURNING created_at, updated_at

-- name: get
SELECT run_id::text, thread_id::text, assistant_id::text, graph_id, metadata, status, kwargs, multitask_strategy,
       created_at, updated_at, error, attempt, fence, cancel_reason
  FROM run
 WHERE run_id = %(run_id)s::uuid
   AND thread_id = %(thread_id)s::uuid
   AND tenant_id = %(tenant_id)s

-- name: find
-- A run by its id alone, as stateless clients know it.
SELECT run_id::text, thread_id::text, assistant_id::text, graph_id, metadata, status, kwargs, multitask_strategy,
       created_at, updated_at, error, attempt, fence, cancel_reason
  FROM run
 WHERE run_id = %(run_id)s::uuid
   AND tenant_id = %(tenant_id)s

-- name: list
SELECT run_id::text, thread_id::text, assistant_id::text, graph_id, metadata, status, kwargs, multitask_strategy,
       created_at, updated_at, error, attempt, fence, cancel_reason
  FROM run
 WHERE thread_id = %(thread_id)s::uuid
   AND tenant_id = %(tenant_id)s
   AND (%(status)s::text IS NULL OR status = %(status)s)
 ORDER BY seq DESC
 LIMIT %(limit)s
OFFSET %(offset)s

-- name: state
SELECT status, error, fence, thread_id::text
  FROM run
 WHERE run_id = %(run_id)s::uuid

-- name: active
SELECT run_id::text, status, fence
  FROM run
 WHERE run_id = ANY(%(run_ids)s::uuid[])
   AND status IN ('pending', 'running')

-- name: foremost
-- Where priorities decide: the runs that are to be claimed instead of the hinted ones, heads of idle threads, in the
-- order of their ranks. A hint then says that a run waits, not which one. Locks their threads, so that two processes do
-- not go for the same ones, and never waits. Hinted runs without a rank count from when they are due. Of very many runs
-- that stand first and cannot start, because their threads are busy, some are looked at only.
WITH front AS (
    SELECT r.run_id, r.rank_at
      FROM (SELECT run_id, thread_id, seq, rank_at
              FROM run
             WHERE status = 'pending'
               AND rank_at IS NOT NULL
               AND trial_seconds IS NULL
               AND run_after <= (SELECT clock_timestamp())
               AND graph_id = ANY(%(graph_ids)s::text[])
             ORDER BY rank_at
             LIMIT 1000) AS r
      JOIN thread t ON t.thread_id = r.thread_id
     WHERE NOT EXISTS (SELECT 1
                         FROM run o
                        WHERE o.thread_id = r.thread_id
                          AND (o.status = 'running'
                               OR (o.status = 'pending' AND o.seq < r.seq
                                   AND (o.run_after <= clock_timestamp() OR o.attempt > 0))))
     ORDER BY r.rank_at
     LIMIT %(limit)s
       FOR UPDATE OF t SKIP LOCKED
)
SELECT run_id::text
  FROM (SELECT run_id, rank_at
          FROM front
         UNION
        SELECT run_id, coalesce(rank_at, run_after)
          FROM run
         WHERE run_id = ANY(%(hinted)s::uuid[])
           AND status = 'pending'
           AND trial_seconds IS NULL) AS found (run_id, rank)
 ORDER BY rank
 LIMIT %(limit)s

-- name: lock_claimable
-- First half of a claim. SKIP LOCKED: a claim never waits, so it is never part of a deadlock; a thread that is
-- locked right now is offered again.
SELECT t.thread_id::text, t.fence
  FROM thread t
 WHERE t.thread_id IN (SELECT r.thread_id FROM run r WHERE r.run_id = ANY(%(run_ids)s::uuid[]) AND r.status = 'pending')
 ORDER BY t.thread_id
   FOR UPDATE SKIP LOCKED

-- name: waiting_elsewhere
SELECT 1
  FROM run
 WHERE run_id = ANY(%(run_ids)s::uuid[])
   AND status = 'pending'
   AND thread_id <> ALL(%(thread_ids)s::uuid[])
 LIMIT 1

-- name: claim
-- Second half, a statement of its own: its snapshot is taken after the thread locks are held, so it sees every run
-- that was running or finished by then. Takes the head of each thread, whichever run the hint named; a run that
-- crashed stays the head until it is tried again, for the next one must not start from half of its state. A process
-- takes the runs of its ward only: that of no trial, of one that need not be alone, of one that must.
WITH locked AS (
    SELECT *
      FROM unnest(%(thread_ids)s::uuid[], %(fences)s::bigint[], %(claim_ids)s::uuid[]) AS l (thread_id, fence, claim_id)
), claimed AS (
    UPDATE run
       SET status = 'running',
           attempt = run.attempt + 1,
           fence = locked.fence + 1,
           lease_owner = %(owner)s,
           claim_id = locked.claim_id,
           lease_expires_at = clock_timestamp() + %(lease)s * interval '1 second',
           started_at = coalesce(run.started_at, clock_timestamp()),
           deadline_at = coalesce(run.deadline_at, clock_timestamp() + run.timeout_seconds * interval '1 second'),
           updated_at = clock_timestamp()
      FROM locked
     WHERE run.run_id = (SELECT x.run_id
                           FROM run x
                          WHERE x.thread_id = locked.thread_id
                            AND x.status = 'pending'
                            AND (x.run_after <= clock_timestamp() OR x.attempt > 0)
                          ORDER BY x.seq
                          LIMIT 1)
       AND run.status = 'pending'
       AND run.run_after <= clock_timestamp()
       AND CASE WHEN run.trial_seconds IS NULL THEN 'open'
                WHEN run.trial_seconds = 0 THEN 'shared'
                ELSE 'alone' END = %(ward)s
       AND NOT EXISTS (SELECT 1 FROM run y WHERE y.thread_id = locked.thread_id AND y.status = 'running')
    RETURNING run.run_id, run.thread_id, run.tenant_id, run.fence, run.attempt, run.assistant_id, run.graph_id, run.kwargs,
              run.has_progress,
              run.trial_seconds, extract(epoch FROM run.deadline_at - clock_timestamp())::float8 AS seconds_left
), fenced AS (
    UPDATE thread
       SET fence = claimed.fence
      FROM claimed
     WHERE thread.thread_id = claimed.thread_id
)
SELECT run_id::text, thread_id::text, tenant_id, fence, attempt, assistant_id::text, graph_id, kwargs, has_progress,
       trial_seconds,
       seconds_left
  FROM claimed

-- name: claimed_before
-- Claims whose commit succeeded although its answer was lost (race 8).
SELECT run_id::text, thread_id::text, tenant_id, fence, attempt, assistant_id::text, graph_id, kwargs, has_progress,
       trial_seconds,
       extract(epoch FROM deadline_at - clock_timestamp())::float8 AS seconds_left, claim_id::text
  FROM run
 WHERE status = 'running'
   AND thread_id IN (SELECT r.thread_id FROM run r WHERE r.run_id = ANY(%(run_ids)s::uuid[]))
   AND claim_id = ANY(%(claim_ids)s::uuid[])

-- name: hold
-- The fence of a round of writes. The row lock is what makes it one: a takeover waits for this transaction, or this
-- statement finds nothing. Ordered, as the heartbeat is, so that the two never deadlock.
SELECT run.run_id::text
  FROM run
  JOIN unnest(%(run_ids)s::uuid[], %(fences)s::bigint[]) AS c (run_id, fence)
    ON run.run_id = c.run_id AND run.fence = c.fence
 WHERE run.status = 'running'
 ORDER BY run.run_id
   FOR NO KEY UPDATE OF run

-- name: mark_progress
-- From the first durable write on, a later attempt continues instead of applying the input again (race 27).
UPDATE run
   SET has_progress = true
 WHERE run_id = ANY(%(run_ids)s::uuid[])
   AND NOT has_progress

-- name: lock_threads
SELECT 1
  FROM thread
 WHERE thread_id = ANY(%(thread_ids)s::uuid[])
 ORDER BY thread_id
   FOR UPDATE

-- name: finish
-- Fenced, and final: a worker that lost its lease changes nothing. Whoever asked for a cancel before this moment was
-- first, whatever the graph says now (race 19). Locked in order first, as heartbeats do: both have many runs in hand.
WITH held AS (
    SELECT run_id
      FROM run
     WHERE run_id = ANY(%(run_ids)s::uuid[])
     ORDER BY run_id
       FOR NO KEY UPDATE
)
UPDATE run
   SET status = CASE WHEN run.cancel_action IS NULL THEN o.status
                     WHEN run.cancel_action = 'timeout' THEN 'timeout'
                     ELSE 'interrupted' END,
       error = CASE WHEN run.cancel_action IS NULL THEN o.error END,
       ended_at = clock_timestamp(),
       updated_at = clock_timestamp(),
       lease_owner = NULL,
       lease_expires_at = NULL
  FROM unnest(%(run_ids)s::uuid[], %(fences)s::bigint[], %(statuses)s::text[], %(errors)s::jsonb[])
       AS o (run_id, fence, status, error)
  JOIN held ON held.run_id = o.run_id
 WHERE run.run_id = o.run_id
   AND run.fence = o.fence
   AND run.status = 'running'
RETURNING run.run_id::text, run.cancel_action, run.cancel_reason

-- name: finished_before
SELECT run_id::text, fence, status, cancel_action, cancel_reason
  FROM run
 WHERE run_id = ANY(%(run_ids)s::uuid[])

-- name: settle_threads
-- After a finish: what the threads are now, and which run each has next. Without a status the run has been rolled
-- back, and the thread is what it was before; one that had failed still has nodes to go on with. A run that was
-- refused leaves its thread as it was.
UPDATE thread
   SET status = CASE WHEN n.run_id IS NULL THEN rest.status ELSE 'busy' END,
       rest_status = rest.status,
       error = CASE WHEN o.kept THEN thread.error ELSE o.error END,
       interrupts = coalesce(o.interrupts, thread.interrupts),
       updated_at = clock_timestamp(),
       state_updated_at = clock_timestamp(),
       expires_at = clock_timestamp() + CASE WHEN thread.temporary THEN interval '2 minutes'
                                             ELSE thread.ttl_minutes * interval '1 minute' END
  FROM unnest(%(thread_ids)s::uuid[], %(statuses)s::text[], %(errors)s::jsonb[], %(interrupts)s::json[],
              %(kept)s::boolean[])
       AS o (thread_id, status, error, interrupts, kept)
  JOIN thread AS old ON old.thread_id = o.thread_id
 CROSS JOIN LATERAL (SELECT CASE WHEN o.kept THEN old.rest_status
                                 WHEN o.status IS NOT NULL THEN o.status
                                 WHEN old.rest_status = 'idle' THEN 'idle'
                                 WHEN EXISTS (SELECT 1 FROM checkpoint c WHERE c.thread_id = o.thread_id)
                                 THEN 'interrupted'
                                 ELSE 'idle' END AS status) AS rest
  LEFT JOIN LATERAL (SELECT r.run_id, r.graph_id, r.run_after, r.status
                       FROM run r
                      WHERE r.thread_id = o.thread_id
                        AND r.status IN ('pending', 'running')
                      ORDER BY r.status DESC, r.seq
                      LIMIT 1) AS n ON true
 WHERE thread.thread_id = o.thread_id
RETURNING thread.thread_id::text, n.run_id::text, n.graph_id,
          n.status = 'pending' AND n.run_after <= clock_timestamp() AS due

-- name: release
-- Hand a run back without using up an attempt's crash budget.
UPDATE run
   SET status = 'pending',
       run_after = clock_timestamp(),
       hinted_at = NULL,
       updated_at = clock_timestamp(),
       lease_owner = NULL,
       lease_expires_at = NULL
  FROM unnest(%(run_ids)s::uuid[], %(fences)s::bigint[]) AS c (run_id, fence)
 WHERE run.run_id = c.run_id
   AND run.fence = c.fence
   AND run.status = 'running'
   AND run.cancel_action IS NULL
RETURNING run.run_id::text, run.graph_id

-- name: renew
-- Lease and cancel flag in one round trip. A claim that does not come back has been lost.
WITH held AS (
    SELECT run.run_id
      FROM run
      JOIN unnest(%(run_ids)s::uuid[], %(fences)s::bigint[]) AS c (run_id, fence)
        ON run.run_id = c.run_id AND run.fence = c.fence
     WHERE run.status = 'running'
     ORDER BY run.run_id
       FOR NO KEY UPDATE OF run
)
UPDATE run
   SET lease_expires_at = clock_timestamp() + %(lease)s * interval '1 second'
  FROM held
 WHERE run.run_id = held.run_id
RETURNING run.run_id::text, run.cancel_action

-- name: disown
-- End the leases of a process that is known to be dead, so that nobody waits for them to run out. Its owner's name is
-- used once only, so this meets no other process. Any of its runs may have been why it died, so from now on they are
-- executed apart from all others. (A lease that runs out says less: a machine or a database may have been away.)
WITH gone AS (
    DELETE FROM worker WHERE owner = %(owner)s
)
UPDATE run
   SET lease_expires_at = clock_timestamp(),
       trial_seconds = coalesce(trial_seconds, 0)
 WHERE status = 'running'
   AND lease_owner = %(owner)s
   AND lease_expires_at > clock_timestamp()
RETURNING run_id::text

-- name: expired
-- A worker that is alive, but does not end a run that it was asked to end, has lost it as well.
SELECT run_id::text, thread_id::text, graph_id
  FROM run
 WHERE status = 'running'
   AND (lease_expires_at < clock_timestamp()
        OR cancel_requested_at < clock_timestamp() - %(patience)s * interval '1 second')
 ORDER BY lease_expires_at
 LIMIT %(limit)s

-- name: lock_expired
-- Thread, then run, and never wait: a writer that holds either is alive, or another sweeper is at it.
SELECT 1
  FROM thread
 WHERE thread_id = %(thread_id)s::uuid
   FOR UPDATE SKIP LOCKED

-- name: lock_expired_run
SELECT 1
  FROM run
 WHERE run_id = %(run_id)s::uuid
   FOR UPDATE SKIP LOCKED

-- name: rescue
-- Re-checked under the locks: a heartbeat that came first wins. Back to pending with backoff, until the budget of
-- crashes is used up, and the last one was its own: no other run was in the process. Before that crash it is to be
-- alone, for longer than it took to die this time. (updated_at is when it was claimed.) Those that died beside it the
-- first time it was seen to die alone are acquitted: at the second crash at the earliest.
WITH lost AS (
    SELECT r.run_id, r.lost_owner AS lost_before,
           r.crashes + 1 >= r.max_crashes
               AND NOT EXISTS (SELECT 1 FROM run o WHERE o.lost_owner = r.lease_owner AND o.run_id <> r.run_id)
               AND NOT EXISTS (SELECT 1
                                 FROM run o
                                WHERE o.status = 'running'
                                  AND o.lease_owner = r.lease_owner
                                  AND o.run_id <> r.run_id) AS is_given_up,
           CASE WHEN r.crashes + 2 >= r.max_crashes
                THEN least(0.5 + 1.5 * extract(epoch FROM r.lease_expires_at - r.updated_at),
                           15 * power(2, least(r.crashes, 20)))
                ELSE r.trial_seconds
                END AS trial_seconds
      FROM run r
     WHERE r.run_id = %(run_id)s::uuid
)
UPDATE run
   SET crashes = crashes + 1,
       status = CASE WHEN lost.is_given_up THEN 'error' ELSE 'pending' END,
       ended_at = CASE WHEN lost.is_given_up THEN clock_timestamp() END,
       error = CASE WHEN lost.is_given_up THEN %(error)s::jsonb END,
       run_after = clock_timestamp() + %(backoff)s * power(2, least(crashes, 8)) * interval '1 second',
       trial_seconds = lost.trial_seconds,
       lost_owner = lease_owner,
       updated_at = clock_timestamp(),
       hinted_at = NULL,
       lease_owner = NULL,
       lease_expires_at = NULL
  FROM lost
 WHERE run.run_id = lost.run_id
   AND status = 'running'
   AND cancel_action IS NULL
   AND lease_expires_at < clock_timestamp()
RETURNING run.run_id::text, status, CASE WHEN crashes = greatest(max_crashes, 2) THEN lost.lost_before END AS lost_before

-- name: acquit
-- The one that was given up has been the death of this process; the others that it held may go on among the rest.
-- Only after the first that is found out: of several, the others are tried one by one. SKIP LOCKED: never waits.
UPDATE run
   SET trial_seconds = NULL
 WHERE run_id IN (SELECT run_id
                    FROM run
                   WHERE lost_owner = %(owner)s
                     AND status = 'pending'
                     AND trial_seconds IS NOT NULL
                     FOR UPDATE SKIP LOCKED)

-- name: suspects
-- The next of a quarantine: the newest, which most likely broke what had worked before; of those whose
-- quarantine died with several in it, the one that came last.
SELECT r.run_id::text, r.graph_id
  FROM run r
 WHERE r.status = 'pending'
   AND r.trial_seconds IS NOT NULL
   AND (r.trial_seconds > 0) = (%(ward)s = 'alone')
   AND r.run_after <= (SELECT clock_timestamp() - %(overdue)s * interval '1 second')
   AND NOT EXISTS (SELECT 1
                     FROM run o
                    WHERE o.thread_id = r.thread_id
                      AND (o.status = 'running'
                           OR (o.status = 'pending' AND o.seq < r.seq
                               AND (o.run_after <= clock_timestamp() OR o.attempt > 0))))
 ORDER BY CASE WHEN r.crashes < r.max_crashes THEN 0 ELSE r.trial_seconds END, r.started_at DESC
 LIMIT %(limit)s

-- name: due
-- Heads of idle threads that nobody has been told about lately. For workers with free slots only. A run that lost its
-- worker is told of again soon: what took its worker may have taken the hint too.
UPDATE run
   SET hinted_at = clock_timestamp()
 WHERE run_id IN (
    SELECT r.run_id
      FROM run r
     WHERE r.status = 'pending'
       AND r.trial_seconds IS NULL
       AND r.run_after <= (SELECT clock_timestamp())
       AND (r.hinted_at IS NULL OR r.hinted_at < clock_timestamp() - interval '1 second'
                   * CASE WHEN r.attempt > 0 THEN least(%(hint_ttl)s::float8, 2) ELSE %(hint_ttl)s::float8 END)
       AND NOT EXISTS (SELECT 1
                         FROM run o
                        WHERE o.thread_id = r.thread_id
                          AND (o.status = 'running'
                               OR (o.status = 'pending' AND o.seq < r.seq
                                   AND (o.run_after <= clock_timestamp() OR o.attempt > 0))))
     ORDER BY r.run_after
     LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED)
RETURNING run_id::text, graph_id

-- name: expired_temporary_threads
-- Threads of stateless runs whose result nobody can ask for any more.
SELECT thread_id::text
  FROM thread
 WHERE expires_at < (SELECT clock_timestamp())
   AND temporary
   AND NOT EXISTS (SELECT 1 FROM run WHERE run.thread_id = thread.thread_id AND run.status IN ('pending', 'running'))
 ORDER BY expires_at
 LIMIT %(limit)s
   FOR UPDATE SKIP LOCKED

-- name: expired_threads
-- Threads past their time to live on which nothing runs. A claim takes the thread's lock, so nothing begins either.
SELECT thread_id::text, ttl_strategy
  FROM thread
 WHERE expires_at < (SELECT clock_timestamp())
   AND NOT temporary
   AND NOT EXISTS (SELECT 1 FROM run WHERE run.thread_id = thread.thread_id AND run.status IN ('pending', 'running'))
 ORDER BY expires_at
 LIMIT %(limit)s
   FOR UPDATE SKIP LOCKED

-- name: disarm_threads
-- Until the next run ends.
UPDATE thread
   SET expires_at = NULL
 WHERE thread_id = ANY(%(thread_ids)s::uuid[])

-- name: delete_threads
WITH c AS (DELETE FROM checkpoint WHERE thread_id = ANY(%(thread_ids)s::uuid[])),
     b AS (DELETE FROM checkpoint_blob WHERE thread_id = ANY(%(thread_ids)s::uuid[])),
     w AS (DELETE FROM checkpoint_write WHERE thread_id = ANY(%(thread_ids)s::uuid[]))
DELETE FROM thread WHERE thread_id = ANY(%(thread_ids)s::uuid[])

-- name: delete
DELETE FROM run WHERE run_id = %(run_id)s::uuid
