-- Which of the roles may create in every one of the schemas, and may be taken by this session, the first first.
--   %(roles)s, %(schemas)s  text[]
SELECT r.rolname
FROM pg_catalog.unnest(%(roles)s::text[]) WITH ORDINALITY AS w(name, place)
JOIN pg_catalog.pg_roles AS r ON r.rolname = w.name
WHERE pg_catalog.pg_has_role(current_user, r.oid,
        CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace AS n
                  WHERE n.nspname = ANY (%(schemas)s::text[]) AND NOT pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE'))
ORDER BY w.place;
