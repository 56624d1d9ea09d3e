-- The text bodies of this database's own functions: the server does not know what they call or read.
-- %(prefix)s: LIKE pattern of this program's own names
SELECT 'pg_catalog.pg_proc'::regclass::oid AS classid, p.oid, i.type || ' ' || i.identity AS object, p.prosrc, n.nspname, p.proname,
       l.lanname::text AS language,
       pg_catalog.format('ALTER FUNCTION %%s SET search_path = %%I', i.identity, n.nspname) AS pin,
       EXISTS (SELECT 1 FROM unnest(p.proconfig) AS c WHERE c LIKE 'search\_path=%%') AS pinned,
       -- what calls it while rows are loaded or indexes made: checks that hold for the rows there are, computed columns, indexes
       (SELECT k.type || ' ' || k.identity
          FROM pg_catalog.pg_depend d
         CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) AS k
         WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid = p.oid
           AND (EXISTS (SELECT 1 FROM pg_catalog.pg_constraint c
                         WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND c.oid = d.objid AND c.contype = 'c' AND c.convalidated)
                OR EXISTS (SELECT 1 FROM pg_catalog.pg_index x WHERE d.classid = 'pg_catalog.pg_class'::regclass AND x.indexrelid = d.objid)
                OR EXISTS (SELECT 1 FROM pg_catalog.pg_attrdef f
                             JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated <> ''
                            WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = d.objid))
         ORDER BY 1 LIMIT 1) AS caller
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
