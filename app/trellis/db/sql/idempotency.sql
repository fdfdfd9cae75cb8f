-- name: reserve
-- A row comes back to exactly one of all who try: the others wait here until its transaction ends. A key past its
-- time is as good as new. The conflicting row stays locked, so what `find` reads next cannot be pruned meanwhile.
INSERT INTO idempotency (tenant_id, key, fingerprint)
VALUES (%(tenant_id)s, %(key)s, %(fingerprint)s)
    ON CONFLICT (tenant_id, key) DO UPDATE
   SET fingerprint = excluded.fingerprint,
       answer = NULL,
       created_at = excluded.created_at
 WHERE idempotency.created_at < clock_timestamp() - interval '24 hours'
RETURNING key

-- name: find
SELECT fingerprint, answer, created_at < clock_timestamp() - interval '24 hours' AS is_past
  FROM idempotency
 WHERE tenant_id = %(tenant_id)s
   AND key = %(key)s

-- name: keep
UPDATE idempotency
   SET answer = %(answer)s::json
 WHERE tenant_id = %(tenant_id)s
   AND key = %(key)s

-- name: sweep
DELETE FROM idempotency
 WHERE (tenant_id, key) IN (SELECT tenant_id, key
                              FROM idempotency
                             WHERE created_at < (SELECT clock_timestamp()) - interval '24 hours'
                             ORDER BY created_at
                             LIMIT %(limit)s
                               FOR UPDATE SKIP LOCKED)
