-- name: get
-- The items asked for that have not expired. n is the item's place in the question, from 1.
SELECT a.n, i.namespace, i.key, i.value, i.created_at, i.updated_at, i.ttl_minutes
  FROM unnest(%(namespaces)s::jsonb[], %(keys)s::text[]) WITH ORDINALITY AS a (namespace, key, n)
  JOIN store_item i
    ON i.tenant_id = %(tenant_id)s
   AND i.namespace = ARRAY(SELECT jsonb_array_elements_text(a.namespace))
   AND i.key = a.key
 WHERE i.expires_at IS NULL OR i.expires_at > clock_timestamp()

-- name: refresh
-- Items that were read live their time again. Those that are locked are being written, which does the same.
UPDATE store_item
   SET expires_at = clock_timestamp() + ttl_minutes * interval '1 minute'
 WHERE (tenant_id, namespace, key) IN (
       SELECT i.tenant_id, i.namespace, i.key
         FROM unnest(%(namespaces)s::jsonb[], %(keys)s::text[]) AS a (namespace, key)
         JOIN store_item i
           ON i.tenant_id = %(tenant_id)s
          AND i.namespace = ARRAY(SELECT jsonb_array_elements_text(a.namespace))
          AND i.key = a.key
        WHERE i.ttl_minutes IS NOT NULL
          FOR UPDATE OF i SKIP LOCKED
       )

-- name: put
INSERT INTO store_item (tenant_id, namespace, key, value, ttl_minutes, expires_at)
SELECT %(tenant_id)s, ARRAY(SELECT jsonb_array_elements_text(a.namespace)), a.key, a.value, a.ttl,
       clock_timestamp() + a.ttl * interval '1 minute'
  FROM unnest(%(namespaces)s::jsonb[], %(keys)s::text[], %(values)s::jsonb[], %(ttls)s::double precision[])
       AS a (namespace, key, value, ttl)
    ON CONFLICT (tenant_id, namespace, key) DO UPDATE
   SET value = excluded.value,
       ttl_minutes = excluded.ttl_minutes,
       expires_at = excluded.expires_at,
       -- An expired item is gone: this is a new one in its place.
       created_at = CASE WHEN store_item.expires_at <= clock_timestamp()
                         THEN excluded.created_at
                         ELSE store_item.created_at END,
       updated_at = excluded.updated_at

-- name: delete
DELETE FROM store_item i
 USING unnest(%(namespaces)s::jsonb[], %(keys)s::text[]) AS a (namespace, key)
 WHERE i.tenant_id = %(tenant_id)s
   AND i.namespace = ARRAY(SELECT jsonb_array_elements_text(a.namespace))
   AND i.key = a.key

-- name: forget_vectors
DELETE FROM store_vector v
 USING unnest(%(namespaces)s::jsonb[], %(keys)s::text[]) AS a (namespace, key)
 WHERE v.tenant_id = %(tenant_id)s
   AND v.namespace = ARRAY(SELECT jsonb_array_elements_text(a.namespace))
   AND v.key = a.key

-- name: put_vectors
INSERT INTO store_vector (tenant_id, namespace, key, n, dims, embedding)
SELECT %(tenant_id)s, ARRAY(SELECT jsonb_array_elements_text(a.namespace)), a.key, a.n, %(dims)s, a.embedding::real[]
  FROM unnest(%(namespaces)s::jsonb[], %(keys)s::text[], %(numbers)s::integer[], %(embeddings)s::text[])
       AS a (namespace, key, n, embedding)

-- name: matching
-- Items whose namespace begins, element by element, with the prefix, and whose value meets every condition.
-- In order these are all from the prefix to beyond it, which the planner can estimate, as it cannot a slice.
-- A value that is missing compares as null; values of different types are neither greater nor less.
SELECT *
  FROM store_item i
 WHERE i.tenant_id = %(tenant_id)s
   AND i.namespace >= %(prefix)s::text[]
   AND (%(beyond)s::text[] IS NULL OR i.namespace < %(beyond)s::text[])
   AND (i.expires_at IS NULL OR i.expires_at > clock_timestamp())
   AND (%(conditions)s::jsonb = '[]' OR NOT EXISTS (
       SELECT
         FROM jsonb_to_recordset(%(conditions)s::jsonb) AS c (path jsonb, operator text, operand jsonb)
        CROSS JOIN LATERAL (
              SELECT coalesce(i.value #> ARRAY(SELECT jsonb_array_elements_text(c.path)), 'null') AS found,
                     coalesce(c.operand, 'null') AS wanted
              ) v
        WHERE NOT CASE c.operator
                  WHEN 'object' THEN jsonb_typeof(found) = 'object'
                  WHEN '$eq' THEN found = wanted
                  WHEN '$ne' THEN found <> wanted
                  WHEN '$gt' THEN jsonb_typeof(found) = jsonb_typeof(wanted) AND found > wanted
                  WHEN '$gte' THEN jsonb_typeof(found) = jsonb_typeof(wanted) AND found >= wanted
                  WHEN '$lt' THEN jsonb_typeof(found) = jsonb_typeof(wanted) AND found < wanted
                  WHEN '$lte' THEN jsonb_typeof(found) = jsonb_typeof(wanted) AND found <= wanted
                  END
       ))

-- name: newest
SELECT namespace, key, value, created_at, updated_at, NULL AS score, ttl_minutes
  FROM (matching) found
 ORDER BY updated_at DESC, namespace, key
 LIMIT %(limit)s
OFFSET %(offset)s

-- name: nearest
-- Exact: every vector below the prefix is looked at. An item is as near as the nearest of its vectors; those that
-- have none, or one of another index, come last.
SELECT f.namespace, f.key, f.value, f.created_at, f.updated_at, s.score, f.ttl_minutes
  FROM (matching) f
  LEFT JOIN LATERAL (
       SELECT max(store_similarity(v.embedding, %(query)s::real[])) AS score
         FROM store_vector v
        WHERE v.tenant_id = f.tenant_id
          AND v.namespace = f.namespace
          AND v.key = f.key
          AND v.dims = %(dims)s
       ) s ON true
 ORDER BY s.score DESC NULLS LAST, f.updated_at DESC, f.namespace, f.key
 LIMIT %(limit)s
OFFSET %(offset)s

-- name: list_namespaces
-- Namespaces with a living item, cut at max_depth, that meet every condition: * stands for any one element.
-- It goes from each namespace to the next, however many items they hold, until it has found what is asked for:
-- found counts, bound is where to look on. Behind n comes n || '' first, and no text lies between x and x\1.
WITH RECURSIVE step AS (
    SELECT NULL::text[] COLLATE "C" AS shown, 0 AS found, %(first)s::text[] COLLATE "C" AS bound
    UNION ALL
    SELECT CASE WHEN m.matches THEN c.shown ELSE step.shown END,
           step.found + (m.matches AND c.shown IS DISTINCT FROM step.shown)::integer,
           CASE WHEN m.matches AND c.shown <> i.namespace
                THEN c.shown[1:%(max_depth)s::integer - 1] || (c.shown[%(max_depth)s::integer] || E'\x01')
                ELSE i.namespace || ''::text END
      FROM step
     CROSS JOIN LATERAL (
           SELECT namespace
             FROM store_item
            WHERE tenant_id = %(tenant_id)s
              AND namespace >= step.bound
              AND (%(beyond)s::text[] IS NULL OR namespace < %(beyond)s::text[])
            ORDER BY namespace
            LIMIT 1
           ) i
     CROSS JOIN LATERAL (
           SELECT i.namespace[1:coalesce(%(max_depth)s::integer, cardinality(i.namespace))] AS shown
           ) c
     CROSS JOIN LATERAL (
           SELECT EXISTS (
                  SELECT
                    FROM store_item living
                   WHERE living.tenant_id = %(tenant_id)s
                     AND living.namespace = i.namespace
                     AND (living.expires_at IS NULL OR living.expires_at > clock_timestamp())
                  )
              AND NOT EXISTS (
                  SELECT
                    FROM jsonb_to_recordset(%(conditions)s::jsonb) AS c (is_suffix boolean, path jsonb)
                   WHERE cardinality(i.namespace) < jsonb_array_length(c.path)
                      OR EXISTS (
                         SELECT
                           FROM jsonb_array_elements_text(c.path) WITH ORDINALITY AS p (element, n)
                          WHERE p.element <> '*'
                            AND p.element <> i.namespace[
                                p.n + CASE WHEN c.is_suffix
                                           THEN cardinality(i.namespace) - jsonb_array_length(c.path)
                                           ELSE 0 END]
                         )
                  ) AS matches
           ) m
     WHERE step.found < %(limit)s::bigint + %(offset)s
)
SELECT DISTINCT shown
  FROM step
 WHERE shown IS NOT NULL
 ORDER BY shown
 LIMIT %(limit)s
OFFSET %(offset)s

-- name: sweep
-- A bounded number of expired items of every tenant; several sweepers share the work.
DELETE FROM store_item
 WHERE (tenant_id, namespace, key) IN (
       SELECT tenant_id, namespace, key
         FROM store_item
        WHERE expires_at <= (SELECT clock_timestamp())
        LIMIT %(limit)s
          FOR UPDATE SKIP LOCKED
       )
