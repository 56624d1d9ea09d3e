-- The foreign keys from one of the tables to another one of them: schema and table they are on, their name.
--   %(tables)s  oid[]
SELECT n.nspname, c.relname, k.conname
FROM pg_catalog.pg_constraint AS k
JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
  AND k.conrelid = ANY (%(tables)s::oid[]) AND k.confrelid = ANY (%(tables)s::oid[]) AND k.conrelid <> k.confrelid
ORDER BY n.nspname, c.relname, k.conname;
