-- The objects to drop when a copy is taken back, dependants first as far as their kinds tell: (classid, objid, type, identity).
-- Parts of tables and types go with them. %(classids)s::oid[], %(objids)s::oid[]: what the copy made, in parallel
SELECT m.classid, m.objid, i.type, i.identity
  FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) AS i
  LEFT JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
  LEFT JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
 WHERE i.identity IS NOT NULL
   AND (c.oid IS NULL AND m.classid <> 'pg_catalog.pg_class'::regclass OR c.relkind IN ('r', 'p', 'S'))
   AND (t.oid IS NULL OR t.typtype IN ('e', 'd', 'r') OR t.typtype = 'b' AND t.typelem = 0
        OR t.typtype = 'c' AND (SELECT k.relkind FROM pg_catalog.pg_class k WHERE k.oid = t.typrelid) = 'c')
   AND m.classid NOT IN ('pg_catalog.pg_attrdef'::regclass, 'pg_catalog.pg_constraint'::regclass, 'pg_catalog.pg_trigger'::regclass,
                         'pg_catalog.pg_policy'::regclass, 'pg_catalog.pg_statistic_ext'::regclass,
                         'pg_catalog.pg_amop'::regclass, 'pg_catalog.pg_amproc'::regclass, 'pg_catalog.pg_rewrite'::regclass)
   -- the sequence of an identity column goes with the column
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                    WHERE d.classid = m.classid AND d.objid = m.objid AND d.deptype IN ('i', 'e')
                      AND (c.relkind = 'S' OR m.classid = 'pg_catalog.pg_proc'::regclass))
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e
                    WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e')
 ORDER BY CASE WHEN c.relkind IN ('r', 'p') THEN 0 WHEN c.relkind = 'S' THEN 1
               WHEN m.classid = 'pg_catalog.pg_extension'::regclass THEN 4
               WHEN m.classid = 'pg_catalog.pg_namespace'::regclass THEN 5 ELSE 3 END, m.objid DESC
