-- Every relation, type and function of the database that somebody made and named, to tell what a clean-up took away.
--   %(prefix)s  LIKE pattern of our own objects' names
SELECT 'pg_class'::pg_catalog.regclass::oid AS classid, c.oid, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS identity
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT LIKE 'pg\_%%' AND c.relname NOT LIKE %(prefix)s
UNION ALL
SELECT 'pg_type'::pg_catalog.regclass::oid, t.oid, pg_catalog.format_type(t.oid, NULL)
FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd', 'r') AND n.nspname NOT LIKE 'pg\_%%'
UNION ALL
SELECT 'pg_proc'::pg_catalog.regclass::oid, p.oid, p.oid::pg_catalog.regprocedure::text
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname NOT LIKE 'pg\_%%' AND p.proname NOT LIKE %(prefix)s;
