-- What pg_dump need not look at, so that it locks and reads no table but those of the set: schemas with nothing of the set in
-- them (name is null), and relations beside it in the others.
-- %(classids)s::oid[], %(objids)s::oid[]: the closure, in parallel; %(schemas)s::text[]: the schemas of the set
SELECT n.nspname::text, NULL::text AS name
  FROM pg_catalog.pg_namespace n
 WHERE n.nspname <> ALL (%(schemas)s::text[])
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
UNION ALL
SELECT n.nspname, c.relname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(schemas)s::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND c.oid NOT IN (SELECT m.objid FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
                      WHERE m.classid = 'pg_catalog.pg_class'::regclass)
 ORDER BY 1, 2
