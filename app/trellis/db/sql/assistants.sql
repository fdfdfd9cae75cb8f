-- name: ensure_default
-- The assistant that a graph has by itself, with its first version. One that nobody has changed follows langgraph.json.
WITH made AS (
    INSERT INTO assistant (assistant_id, tenant_id, graph_id, name, description, metadata, created_at, updated_at)
    SELECT %(assistant_id)s::uuid, %(tenant_id)s, %(graph_id)s, %(graph_id)s, %(description)s,
           '{"created_by": "system"}', at.now, at.now
      FROM (SELECT clock_timestamp() AS now) AS at
        ON CONFLICT (assistant_id) DO UPDATE
       SET description = excluded.description,
           updated_at = excluded.updated_at
     WHERE assistant.tenant_id = excluded.tenant_id
       AND assistant.version = 1
       AND assistant.description IS DISTINCT FROM excluded.description
    RETURNING assistant_id, version, graph_id, name, description, metadata, created_at
)
INSERT INTO assistant_version (assistant_id, version, graph_id, name, description, metadata, created_at)
SELECT assistant_id, version, graph_id, name, description, metadata, created_at
  FROM made
    ON CONFLICT (assistant_id, version) DO UPDATE
   SET description = excluded.description

-- name: insert
-- With its first version. No row: an assistant with this id exists, whoever owns it.
WITH made AS (
    INSERT INTO assistant (assistant_id, tenant_id, graph_id, name, description, config, context, metadata,
                           created_at, updated_at)
    SELECT %(assistant_id)s::uuid, %(tenant_id)s, %(graph_id)s, %(name)s, %(description)s, %(config)s::jsonb,
           %(context)s::jsonb, %(metadata)s::jsonb, at.now, at.now
      FROM (SELECT clock_timestamp() AS now) AS at
        ON CONFLICT (assistant_id) DO NOTHING
    RETURNING *
), kept AS (
    INSERT INTO assistant_version (assistant_id, version, graph_id, name, description, config, context, metadata,
                                   created_at)
    SELECT assistant_id, version, graph_id, name, description, config, context, metadata, created_at
      FROM made
)
SELECT assistant_id::text, graph_id, config, context, metadata, name, created_at, updated_at, version, description
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

-- name: lock
-- Two changes at once become two versions, one after the other.
SELECT assistant_id::text, graph_id, config, context, metadata, name, created_at, updated_at, version, description
  FROM assistant
 WHERE assistant_id = %(assistant_id)s::uuid
   AND tenant_id = %(tenant_id)s
   FOR UPDATE

-- name: change
-- Of a locked assistant: its next version, which is one more than the highest, whichever is the latest now.
WITH changed AS (
    UPDATE assistant
       SET graph_id = %(graph_id)s,
           name = %(name)s,
           description = %(description)s,
           config = %(config)s::jsonb,
           context = %(context)s::jsonb,
           metadata = metadata || %(metadata)s::jsonb,
           version = 1 + (SELECT max(v.version)
                            FROM assistant_version v
                           WHERE v.assistant_id = %(assistant_id)s::uuid),
           updated_at = clock_timestamp()
     WHERE assistant_id = %(assistant_id)s::uuid
    RETURNING *
), kept AS (
    INSERT INTO assistant_version (assistant_id, version, graph_id, name, description, config, context, metadata,
                                   created_at)
    SELECT assistant_id, version, graph_id, name, description, config, context, metadata, updated_at
      FROM changed
)
SELECT assistant_id::text, graph_id, config, context, metadata, name, created_at, updated_at, version, description
  FROM changed

-- name: set_latest
-- Everything that a version has, of a locked assistant. No row: there is no such version.
UPDATE assistant
   SET graph_id = v.graph_id,
       name = v.name,
       description = v.description,
       config = v.config,
       context = v.context,
       metadata = v.metadata,
       version = v.version,
       updated_at = clock_timestamp()
  FROM assistant_version v
 WHERE assistant.assistant_id = %(assistant_id)s::uuid
   AND v.assistant_id = assistant.assistant_id
   AND v.version = %(version)s
RETURNING assistant.assistant_id::text, assistant.graph_id, assistant.config, assistant.context, assistant.metadata,
          assistant.name, assistant.created_at, assistant.updated_at, assistant.version, assistant.description

-- name: versions
SELECT assistant_id::text, version, graph_id, config, context, metadata, created_at, name, description
  FROM assistant_version
 WHERE assistant_id = %(assistant_id)s::uuid
   AND metadata @> %(metadata)s::jsonb
 ORDER BY version DESC
 LIMIT %(limit)s
OFFSET %(offset)s

-- name: delete
-- Of a locked assistant, with its versions, and with its crons, which could start nothing any more.
WITH crons AS (DELETE FROM cron WHERE assistant_id = %(assistant_id)s::uuid AND tenant_id = %(tenant_id)s)
DELETE FROM assistant
 WHERE assistant_id = %(assistant_id)s::uuid
