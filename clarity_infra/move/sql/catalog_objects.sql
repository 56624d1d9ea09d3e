-- What the members of the closure are, in words, without what belongs to a table as a matter of course.
-- %(classids)s::oid[], %(objids)s::oid[]: the closure, in parallel
SELECT m.classid, m.objid, m.classid::regclass::text AS catalog, i.type, i.identity,
       c.relkind::text, t.typtype::text, t.typname::text, tn.nspname::text AS type_schema,
       EXISTS (SELECT 1 FROM pg_catalog.pg_depend e
                WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e') AS of_extension
  FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) AS i
  LEFT JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
  LEFT JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
  LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
 WHERE i.identity IS NOT NULL
   AND m.classid NOT IN ('pg_catalog.pg_attrdef'::regclass, 'pg_catalog.pg_constraint'::regclass, 'pg_catalog.pg_trigger'::regclass)
   AND (c.oid IS NULL OR c.relkind IN ('S', 'c'))
   -- the constructors of a range come with it
   AND NOT (m.classid = 'pg_catalog.pg_proc'::regclass
            AND EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = m.classid AND d.objid = m.objid AND d.deptype = 'i'))
   -- array types, row types and multiranges come with the type or table they belong to
   AND (t.oid IS NULL OR t.typtype IN ('e', 'd', 'r', 'b') AND t.typelem = 0
        OR t.typtype = 'c' AND (SELECT k.relkind FROM pg_catalog.pg_class k WHERE k.oid = t.typrelid) = 'c')
 ORDER BY 3, 5
