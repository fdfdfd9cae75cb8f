"""Vectors of store items, compared by pgvector where the server has it, and an index for the latest items.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UPGRADE = """
-- What an item means: a row per text of it that was embedded. Their length is 1, or 0 for a vector of zeros.
CREATE TABLE store_vector (
    tenant_id text NOT NULL,
    namespace text[] COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    n integer NOT NULL,
    dims integer NOT NULL,
    embedding real[] NOT NULL,
    PRIMARY KEY (tenant_id, namespace, key, n),
    FOREIGN KEY (tenant_id, namespace, key) REFERENCES store_item ON DELETE CASCADE
);
-- Numbers without a pattern: trying to compress them is for nothing.
ALTER TABLE store_vector ALTER COLUMN embedding SET STORAGE EXTERNAL;

-- Makes store_similarity, the cosine of two such vectors: pgvector's if the extension is there or can be had, else
-- plain SQL. Both are exact. To be called again when pgvector was installed later. Returns which one it is.
CREATE FUNCTION store_choose_similarity() RETURNS text LANGUAGE plpgsql AS $choose$
DECLARE
    place text;
    body text := 'SELECT sum(x::double precision * y) FROM unnest(a, b) AS u (x, y)';
BEGIN
    BEGIN
        CREATE EXTENSION IF NOT EXISTS vector;
    EXCEPTION WHEN OTHERS THEN
        -- It is not installed, or this role may not: plain SQL will do.
        NULL;
    END;
    SELECT quote_ident(n.nspname) INTO place
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname = 'vector';
    IF place IS NOT NULL THEN
        body := format('SELECT -(a::%1$s.vector OPERATOR(%1$s.<#>) b::%1$s.vector)', place);
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION store_similarity(a real[], b real[]) RETURNS double precision '
                   'LANGUAGE sql IMMUTABLE PARALLEL SAFE AS %L', body);
    RETURN CASE WHEN place IS NULL THEN 'sql' ELSE 'pgvector' END;
END $choose$;
SELECT store_choose_similarity();
"""

# The extension stays: others may use it by now.
DOWNGRADE = """
DROP FUNCTION store_similarity(real[], real[]);
DROP FUNCTION store_choose_similarity();
DROP TABLE store_vector;
"""


LATEST = "ix_store_item_latest"


def upgrade() -> None:
    # First and by itself: graphs go on writing while it is built, and one that was interrupted is built again.
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {LATEST}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY {LATEST} ON store_item (tenant_id, updated_at DESC, namespace, key)"
        )
        op.execute("SET lock_timeout = '5s'")
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {LATEST}")
