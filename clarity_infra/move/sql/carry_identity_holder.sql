-- The table whose ALTER changes a table's identity columns: a partition has those of the table it is a part of (since PostgreSQL 17).
--   %(schema)s, %(table)s
SELECT n.nspname, r.relname
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
JOIN pg_catalog.pg_class AS r ON r.oid = COALESCE(pg_catalog.pg_partition_root(c.oid)::pg_catalog.oid, c.oid)
JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
WHERE s.nspname = %(schema)s AND c.relname = %(table)s;
