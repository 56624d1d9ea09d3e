-- The text bodies of this database's own functions: the server does not know what they call or read.
-- %(prefix)s: LIKE pattern of this program's own names
SELECT p.oid, i.type || ' ' || i.identity AS object, p.prosrc, n.nspname, p.proname,
       l.lanname::text AS language
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) AS i
 WHERE p.oid >= 16384 AND p.prosqlbody IS NULL AND l.lanname NOT IN ('c', 'internal')
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
   AND p.proname NOT LIKE %(prefix)s
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e
                    WHERE e.classid = 'pg_catalog.pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
 ORDER BY 2
