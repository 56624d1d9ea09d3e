-- The foreign keys of tables that are checked at once and cannot be deferred; for that of a partition the one it has from the whole, which
-- may be on a table that is not named.
--   %(schemas)s, %(names)s  arrays of equal length
WITH RECURSIVE up(oid) AS (
    SELECT k.oid
    FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
    JOIN pg_catalog.pg_constraint AS k ON k.conrelid = c.oid AND k.contype = 'f'
    UNION
    SELECT k.conparentid FROM up JOIN pg_catalog.pg_constraint AS k ON k.oid = up.oid WHERE k.conparentid <> 0
)
SELECT n.nspname, c.relname, k.conname
FROM up
JOIN pg_catalog.pg_constraint AS k ON k.oid = up.oid
JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT k.condeferrable AND k.conparentid = 0
ORDER BY n.nspname, c.relname, k.conname;
