-- The triggers of tables that would fire on a write, with their state; not those that keep constraints.
--   %(schemas)s, %(names)s  arrays of equal length
SELECT n.nspname, c.relname, t.tgname, t.tgenabled::text
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = c.oid
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
ORDER BY n.nspname, c.relname, t.tgname;
