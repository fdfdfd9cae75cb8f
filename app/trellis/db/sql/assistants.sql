-- name: ensure_default
-- The assistant that a graph has by itself, with its first version. Changes nothing when it exists.
WITH made AS (
    INSERT INTO assistant (assistant_id, tenant_id, graph_id, name, description, metadata, created_at, updated_at)
    SELECT %(assistant_id)s::uuid, %(tenant_id)s, %(graph_id)s, %(graph_id)s, %(description)s,
           '{"created_by": "system"}', at.now, at.now
      FROM (SELECT clock_timestamp() AS now) AS at
        ON CONFLICT (assistant_id) DO NOTHING
    RETURNING assistant_id, version, graph_id, name, description, metadata, created_at
)
INSERT INTO assistant_version (assistant_id, version, graph_id, name, description, metadata, created_at)
SELECT assistant_id, version, graph_id, name, description, metadata, created_at
  FROM made

-- name: get
SELECT assistant_id::text, graph_id, config, context, metadata, name, created_at, updated_at, version, description
  FROM assistant
 WHERE assistant_id = %(assistant_id)s::uuid
   AND tenant_id = %(tenant_id)s

-- name: graph
-- What a worker published of a graph when it loaded it.
SELECT graph_id, info, load_error
  FROM graph
 WHERE graph_id = %(graph_id)s
