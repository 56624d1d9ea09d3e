-- Which relation is meant by each name, and may the current user alter it?
-- %(schemas)s::text[], %(names)s::text[]: the names, in parallel
SELECT w.schema, w.name, c.oid, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner,
       -- since PostgreSQL 16 not every member may take the role or has its privileges
       pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE') OR pg_catalog.pg_has_role(current_user, c.relowner,
         CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) AS mine,
       pg_catalog.pg_has_role(current_user, c.relowner, 'MEMBER') AS member,
       (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = c.relowner) AS of_superuser,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS visible,
       (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
           AND d.refclassid = 'pg_catalog.pg_extension'::regclass) AS extension,
       (SELECT pg_catalog.string_agg(pg_catalog.format('%%I.%%I', n2.nspname, c2.relname), ', ' ORDER BY n2.nspname, c2.relname)
          FROM pg_catalog.pg_class c2 JOIN pg_catalog.pg_namespace n2 ON n2.oid = c2.relnamespace
         WHERE c.oid IS NULL AND c2.relkind IN ('r', 'p') AND pg_catalog.lower(c2.relname) = pg_catalog.lower(w.name)) AS similar
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) WITH ORDINALITY AS w(schema, name, position)
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind NOT IN ('i', 'I', 't')
 ORDER BY w.position
