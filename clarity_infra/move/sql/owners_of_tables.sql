-- The owner of each named table, and whether the session may act with its privileges as it is or has to take the role first; its OID.
--   %(schemas)s, %(names)s  arrays of equal length
SELECT w.schema, w.name, r.rolname, pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE'), c.oid
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) WITH ORDINALITY AS w(schema, name, n)
JOIN pg_catalog.pg_namespace AS ns ON ns.nspname = w.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = ns.oid AND c.relname = w.name
JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner
ORDER BY w.n;
