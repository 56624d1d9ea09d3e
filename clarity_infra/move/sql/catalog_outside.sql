-- Which members of the set need a table, view or sequence that is not in it?
-- The key or index that a foreign key refers to is none: it belongs to the table outside, and the foreign key is named.
-- %(classids)s::oid[], %(objids)s::oid[]: the closure, in parallel
SELECT DISTINCT m.classid::regclass::text AS catalog, m.classid, m.objid, i.type || ' ' || i.identity AS object, o.type || ' ' || o.identity AS needs,
       k.contype::text, c.relkind::text AS member_kind
  FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
  JOIN pg_catalog.pg_depend d ON d.classid = m.classid AND d.objid = m.objid AND d.refclassid = 'pg_catalog.pg_class'::regclass
  JOIN pg_catalog.pg_class r ON r.oid = d.refobjid AND r.relkind IN ('r', 'p', 'v', 'm', 'f') AND r.oid >= 16384
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) AS i
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.refclassid, d.refobjid, 0) AS o
  LEFT JOIN pg_catalog.pg_constraint k ON m.classid = 'pg_catalog.pg_constraint'::regclass AND k.oid = m.objid
  LEFT JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
 WHERE r.oid NOT IN (SELECT x.objid FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS x(classid, objid)
                      WHERE x.classid = 'pg_catalog.pg_class'::regclass)
   AND i.identity IS NOT NULL
   AND k.conrelid IS DISTINCT FROM r.oid
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_index x
                    WHERE m.classid = 'pg_catalog.pg_class'::regclass AND x.indexrelid = m.objid AND x.indrelid = r.oid)
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e')
 ORDER BY object, needs
