-- The database's own relations and functions by name, for a look into function bodies. "helps": it can move with a function that names it.
-- %(prefix)s: LIKE pattern of this program's own names
SELECT 'relation' AS kind, c.oid, n.nspname, c.relname AS name, 'pg_catalog.pg_class'::regclass::oid AS classid,
       c.relkind IN ('r', 'p') AS is_table,
       c.relkind = 'S' AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend o
                                        WHERE o.classid = 'pg_catalog.pg_class'::regclass AND o.objid = c.oid AND o.deptype IN ('a', 'i')) AS helps
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relname NOT LIKE %(prefix)s
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e
                    WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
UNION ALL
SELECT 'function', p.oid, n.nspname, p.proname, 'pg_catalog.pg_proc'::regclass::oid, false, l.lanpltrusted OR l.lanname = 'sql'
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE p.oid >= 16384 AND p.proname NOT LIKE %(prefix)s
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e
                    WHERE e.classid = 'pg_catalog.pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
 ORDER BY 1, 3, 4
