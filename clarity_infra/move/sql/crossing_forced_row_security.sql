-- The tables whose row security binds their owner too; whether it binds the session's user, or the owner, whose role is taken to write.
--   %(schemas)s, %(names)s  arrays of equal length
SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner),
       pg_catalog.row_security_active(c.oid) OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') AS binds
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
WHERE c.relrowsecurity AND c.relforcerowsecurity
ORDER BY n.nspname, c.relname;
