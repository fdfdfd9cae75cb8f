-- name: leave
-- No row: there is a probe already, which may be of another key. Waits for whoever is leaving one.
INSERT INTO encryption_probe (probe)
VALUES (%(probe)s)
    ON CONFLICT (only_one) DO NOTHING
RETURNING probe

-- name: probe
SELECT probe
  FROM encryption_probe

-- name: replace
UPDATE encryption_probe
   SET probe = %(probe)s,
       made_at = clock_timestamp()
 WHERE probe = %(old)s

-- name: withdraw
DELETE FROM encryption_probe
 WHERE probe = %(old)s
