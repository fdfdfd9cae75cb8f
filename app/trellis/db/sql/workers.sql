-- name: keep
INSERT INTO worker (owner, slots, seen_at)
VALUES (%(owner)s, %(slots)s, clock_timestamp())
    ON CONFLICT (owner) DO UPDATE
   SET slots = excluded.slots,
       seen_at = excluded.seen_at

-- name: forget
DELETE FROM worker
 WHERE owner = %(owner)s

-- name: there
SELECT EXISTS (SELECT 1
                 FROM worker
                WHERE seen_at > clock_timestamp() - %(seconds)s * interval '1 second') AS there

-- name: sweep
-- Nobody waits for a row that somebody else is at, so their order does not matter.
DELETE FROM worker
 WHERE owner IN (SELECT owner
                   FROM worker
                  WHERE seen_at < clock_timestamp() - %(seconds)s * interval '1 second'
                  LIMIT 100
                    FOR UPDATE SKIP LOCKED)
