-- The foreign keys of tables that are checked at once and cannot be deferred; of a partitioned table the one its partitions inherit.
--   %(schemas)s, %(names)s  arrays of equal length
SELECT n.nspname, c.relname, k.conname
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_catalog.pg_constraint AS k ON k.conrelid = c.oid
WHERE k.contype = 'f' AND NOT k.condeferrable AND k.conparentid = 0
ORDER BY n.nspname, c.relname, k.conname;
